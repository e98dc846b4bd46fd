"""check_data: every kind of trouble is found, and nothing where there is none."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageEnhance

from segmentation.check_data import check_data
from segmentation.survey.duplicates import nearly_the_same
from segmentation.survey.facts import THUMB, Fact, thumbnail
from segmentation.survey.sheet import draw_mask, shorten
from segmentation.survey.weights import class_weights, labelled_where_present
from tests.conftest import Compose

WORDS = ("data=folder", "data.classes=[no,yes,may]", "data.colours=[[9,9,9],[200,0,0],[0,0,200]]")


def picture(seed: int, height: int = 40, width: int = 60) -> npt.NDArray[np.uint8]:
    """Coarse blobs, as photographs have them."""
    blobs = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return np.asarray(Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC))


def labels(seed: int, height: int = 40, width: int = 60) -> npt.NDArray[np.uint8]:
    mask = np.random.default_rng(seed).integers(0, 3, (height, width)).astype(np.uint8)
    mask[:2] = 255
    return mask


def file(root: Path, split: str, kind: str, name: str) -> Path:
    return root / split / kind / f"{name}.png"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Five training and three validation images, all different and right."""
    root = tmp_path / "data"
    for seed in range(8):
        split, name = ("train", f"t{seed}") if seed < 5 else ("val", f"v{seed}")
        for kind, array in (("images", picture(seed)), ("masks", labels(seed))):
            path = file(root, split, kind, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return root


@pytest.fixture
def check(tree: Path, compose: Compose, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(*words: str) -> dict[str, Any]:
        return check_data(compose(*WORDS, f"data.root={tree}", *words, name="check_data"), tmp_path / "out")

    return run


Check = Callable[..., dict[str, Any]]


def found(content: dict[str, Any]) -> set[tuple[str, bool]]:
    return {(finding["kind"], finding["error"]) for finding in content["findings"]}


def test_what_is_right_has_no_findings(check: Check, tmp_path: Path) -> None:
    content = check()
    assert content["findings"] == []
    assert content == json.loads((tmp_path / "out" / "check.json").read_text())
    assert (content["splits"]["train"]["images"], content["splits"]["val"]["images"]) == (5, 3)
    assert content["splits"]["train"]["sizes"] == {"60x40": 5}
    assert content["splits"]["train"]["void_share"] == pytest.approx(2 / 40)
    shares = [entry["share"] for entry in content["splits"]["train"]["classes"].values()]
    assert sum(shares) == pytest.approx(1)
    width, height = Image.open(tmp_path / "out" / "contact.png").size
    assert width > height > 100


def replace(kind: str, array: Any, split: str = "train", name: str = "t1") -> Callable[[Path], None]:
    return lambda root: Image.fromarray(array).save(file(root, split, kind, name))


def all_masks(change: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        for path in root.rglob("masks/*.png"):
            Image.fromarray(change(np.asarray(Image.open(path)))).save(path)

    return spoil


def with_palettes(root: Path) -> None:
    """Every mask with colours of its own, as programs write them that count colours."""
    for number, path in enumerate(sorted(root.rglob("masks/*.png"))):
        mask = Image.open(path)
        mask.putpalette(np.random.default_rng(number).integers(0, 256, 768).tolist())
        mask.save(path)


def swapped_palettes(root: Path) -> None:
    for path in root.rglob("masks/*.png"):
        mask = Image.open(path)
        mask.putpalette([9, 9, 9, 0, 0, 200, 200, 0, 0] + [0] * 759)
        mask.save(path)


def jpeg_mask(root: Path) -> None:
    path = file(root, "train", "masks", "t1")
    path.unlink()
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(path.with_suffix(".jpg"))


def brighter_copy(root: Path) -> None:
    image = Image.open(file(root, "train", "images", "t0"))
    path = file(root, "val", "images", "v6")
    ImageEnhance.Brightness(image).enhance(0.9).save(path.with_suffix(".jpg"), quality=80)
    Image.open(path.with_suffix(".jpg")).save(path)
    path.with_suffix(".jpg").unlink()


TROUBLE: dict[str, tuple[Callable[[Path], object], tuple[str, bool], str]] = {
    "truncated": (
        lambda root: file(root, "val", "images", "v5").write_bytes(b"\x89PNG\r\n"),
        ("unreadable", True),
        "v5.png",
    ),
    "a label too many": (replace("masks", labels(1) + 1), ("unreadable", True), "label 3 is no class"),
    "another size": (replace("masks", labels(1, 20, 30)), ("unreadable", True), "30x20, but its image is 60x40"),
    "no mask": (lambda root: file(root, "train", "masks", "t1").unlink(), ("unreadable", True), "no such file"),
    "binary": (all_masks(lambda mask: np.where(mask > 1, 255, 0).astype(np.uint8)), ("binary", True), "labels=[0,255]"),
    "empty class": (all_masks(lambda mask: np.where(mask == 1, 2, mask)), ("empty class", False), "yes"),
    "void": (replace("masks", np.full((40, 60), 255, np.uint8)), ("void", False), "t1"),
    "palettes": (with_palettes, ("palette", False), "data.reader.masks=colours"),
    "swapped palette": (swapped_palettes, ("palette", False), "index 1 has the colour of may"),
    "the same image": (replace("images", picture(0), "val", "v6"), ("leak", True), "train/t0 = val/v6"),
    "nearly the same": (brighter_copy, ("leak", False), "train/t0 = val/v6"),
    "twice in a split": (replace("images", picture(0)), ("duplicates", False), "train/t0 = train/t1"),
}


@pytest.mark.parametrize("kind", TROUBLE)
def test_trouble_is_found(kind: str, check: Check, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, expected, said = TROUBLE[kind]
    spoil(tree)
    content = check()
    assert expected in found(content)
    (finding, *_) = [entry for entry in content["findings"] if (entry["kind"], entry["error"]) == expected]
    assert said in " ".join([finding["message"], *finding["examples"]])
    assert said in " ".join(capsys.readouterr().out.split())


def test_sizes_that_differ_are_said(check: Check, tree: Path) -> None:
    replace("images", picture(1, 20, 30))(tree)
    replace("masks", labels(1, 20, 30))(tree)
    assert found(check()) == {("sizes", False)}


def test_masks_of_jpeg_are_refused(check: Check, tree: Path) -> None:
    jpeg_mask(tree)
    (finding,) = check("data.reader.mask='{split}/masks/{name}.*'")["findings"]
    assert (finding["kind"], finding["error"]) == ("unreadable", True)
    assert "t1.jpg: a mask as JPEG" in finding["examples"][0]


def test_a_split_that_training_needs_is_missed(check: Check, tree: Path) -> None:
    for path in (tree / "val" / "images").iterdir():
        path.unlink()
    (finding,) = check()["findings"]
    assert (finding["kind"], finding["error"]) == ("split", True)
    assert "no split 'val', no image that fits data.reader.image" in finding["message"]


def test_videos_in_two_splits_are_said(check: Check) -> None:
    content = check("data.group='^.(.)'")  # every image a video of its own
    assert content["findings"] == []
    content = check("data.group='^(.)?.*'", "data.splits.test=null")
    assert content["findings"] == []
    (finding,) = check("data.group='^[tv]()'")["findings"]
    assert (finding["kind"], finding["error"]) == ("group", False)
    assert finding["examples"] == [" (5 and 3 images)"]


def test_names_that_no_group_fits_are_said(check: Check) -> None:
    (finding,) = check("data.group='^(t)'")["findings"]
    assert (finding["kind"], finding["error"]) == ("group", False)
    assert finding["message"].startswith("data.group does not fit 3 names: ")
    assert finding["examples"] == ["val/v5", "val/v6", "val/v7"]


def test_all_trouble_is_found_at_once(check: Check, tree: Path) -> None:
    for kind in ("truncated", "a label too many", "no mask"):
        TROUBLE[kind][0](tree)
    file(tree, "train", "masks", "t2").write_bytes(b"")
    (finding,) = [entry for entry in check()["findings"] if entry["kind"] == "unreadable"]
    assert len(finding["examples"]) == 3  # t1's mask is both wrong and, later, gone


def test_a_limit_reads_less(check: Check) -> None:
    assert check("data.limit=2")["splits"]["train"]["images"] == 2


def test_weights_are_the_median_frequency_over_each_class_own() -> None:
    pixels = [np.array([60, 20, 0]), np.array([90, 0, 10])]
    facts = [Fact("train", str(i), pixels=np.pad(count, (0, 253))) for i, count in enumerate(pixels)]
    present = labelled_where_present(facts, 3)
    assert present == {0: 180, 1: 80, 2: 100}
    # Frequencies 150/180, 20/80, 10/100, of which 1/4 is the median.
    assert class_weights(np.sum(pixels, axis=0), present) == [0.3, 1.0, 2.5]
    assert class_weights(np.array([0, 0]), {}) == [1, 1]
    assert class_weights(np.array([5, 0]), {0: 5, 1: 0}) == [1, 1]


def test_an_image_of_one_colour_is_like_no_other() -> None:
    flat = np.full((30, 40, 3), 90, np.uint8)
    assert not thumbnail(flat).any()
    noisy = flat + np.random.default_rng(0).integers(0, 2, flat.shape).astype(np.uint8)
    assert not thumbnail(noisy).any()


def test_many_images_are_compared_in_little_time() -> None:
    thumbs = np.random.default_rng(0).normal(size=(6000, THUMB * THUMB)).astype(np.float32)
    thumbs /= np.linalg.norm(thumbs, axis=1, keepdims=True)
    thumbs[5999] = thumbs[17]
    facts = [Fact("train", str(i), digest=str(i), thumb=thumb) for i, thumb in enumerate(thumbs)]
    begin = time.perf_counter()
    (pair,) = nearly_the_same(facts)
    assert (pair.first[1], pair.second[1]) == ("17", "5999")
    assert time.perf_counter() - begin < 10


def test_frames_of_a_fixed_camera_make_no_more_pairs_than_images() -> None:
    """All pairs of 20,000 such frames would not fit into the memory."""
    rng = np.random.default_rng(0)
    thumbs = rng.normal(size=THUMB * THUMB) + 0.01 * rng.normal(size=(300, THUMB * THUMB))
    thumbs = (thumbs / np.linalg.norm(thumbs, axis=1, keepdims=True)).astype(np.float32)
    facts = [Fact("train" if i < 200 else "val", str(i), digest=str(i), thumb=thumb) for i, thumb in enumerate(thumbs)]
    pairs = nearly_the_same(facts)
    leaks = [pair for pair in pairs if pair.leaks]
    assert [pair.second[1] for pair in leaks] == [str(i) for i in range(200, 300)]  # each once
    likest = (thumbs[200:] @ thumbs[:200].T).argmax(axis=1)
    assert [pair.first for pair in leaks] == [("train", str(i)) for i in likest]
    assert len(pairs) - len(leaks) == 199 + 99  # each but the first of its split


def test_void_is_drawn_like_no_class() -> None:
    mask = np.array([[0, 255], [1, 255]], np.uint8).repeat(20, 0).repeat(20, 1)
    drawn = draw_mask(mask, [[0, 0, 0], [200, 0, 0]], 255)
    assert {tuple(colour) for colour in drawn[mask == 255].tolist()} == {(150, 150, 150), (215, 215, 215)}
    assert drawn[0, 0].tolist() == [0, 0, 0]


def test_long_names_keep_both_ends() -> None:
    assert shorten("short") == "short"
    assert shorten("a" * 30 + "b" * 30) == "a" * 16 + "…" + "b" * 16


def test_images_of_few_bits_in_many_are_found_and_white_is_proposed(
    check: Callable[..., dict[str, Any]], tree: Path
) -> None:
    def kinds(*words: str) -> dict[str, str]:
        return {one["kind"]: one["message"] for one in check(*words)["findings"]}

    assert not {"dark", "cut off"} & set(kinds())
    for index, top in ((0, 3800), (1, 4011)):  # of 12 bits
        path = file(tree, "train", "images", f"t{index}")
        assert cv2.imwrite(str(path), (picture(index).astype(np.uint16) * 16).clip(max=top))
    assert "2 images of more than 8 bits store 4011 at most (train/t1), which is nearly black" in kinds()["dark"]
    assert kinds()["dark"].endswith("set data.white=4095")
    assert "1 images store more than data.white, up to 4011" in kinds("data.white=4000")["cut off"]
    assert "cut off" in kinds("data.white=[4095,4095,4000]")
    assert not {"dark", "cut off"} & set(kinds("data.white=4095"))
    assert cv2.imwrite(str(file(tree, "train", "images", "t1")), picture(1).astype(np.uint16) * 257)
    assert "dark" not in kinds()
