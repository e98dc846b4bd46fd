"""Images whose values are not in the range they are read in: training and check_data say so, and what to set."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from segmentation.check_data import check_data
from segmentation.data.checks import find_darkness
from segmentation.data.images import read_image
from segmentation.data.module import DataModule
from segmentation.errors import UserError
from tests.conftest import Compose
from tests.settings import plain

Array = npt.NDArray[Any]
Write = Callable[[Path, Array], object]


def tree(root: Path, make: Callable[[Array], Array], write: Write, ending: str) -> Path:
    """Four training and two validation images, made of grey values from 0 to 255, no two alike."""
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            rng = np.random.default_rng((count, index))
            values = rng.integers(0, 255, (6, 9, 3)).repeat(4, 0).repeat(4, 1)
            values[0, 0] = 255 - index
            write(root / split / "images" / f"{index}{ending}", make(values))
            Image.fromarray(rng.integers(0, 2, (24, 36), np.uint8)).save(root / split / "masks" / f"{index}.png")
    return root


def write_png(path: Path, values: Array) -> None:
    assert cv2.imwrite(str(path), values)


def of_numbers(root: Path, kind: Any) -> Path:
    """Arrays of longer numbers that hold what bytes could."""
    return tree(root, lambda values: values.astype(kind), np.save, ".npy")


def of_12_bits(root: Path) -> Path:
    return tree(root, lambda values: values.astype(np.uint16) * 16, write_png, ".png")


def words(root: Path, *more: str) -> list[str]:
    splits = "data.splits={train:null,val:null,test:null}"
    return ["data=folder", f"data.root={root}", "data.classes=[no,yes]", splits, *more]


Prepare = Callable[..., list[str]]


@pytest.fixture
def prepare(tiny: Compose, caplog: pytest.LogCaptureFixture) -> Prepare:
    """Make a data set ready for a training, and return the lines that are said of what is white."""

    def run(root: Path, *more: str, splits: tuple[str, ...] = ("train", "val")) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            DataModule(plain(tiny(*words(root, *more)))["data"], {}, 0).prepare(*splits)
        return [record.message for record in caplog.records if "data.white" in record.message]

    return run


@pytest.mark.parametrize("cache", ["off", "auto"])
@pytest.mark.parametrize("kind", [np.int16, np.int32, np.int64, np.uint16])
def test_a_training_on_black_images_is_refused(kind: Any, cache: str, prepare: Prepare, tmp_path: Path) -> None:
    root = of_numbers(tmp_path / "data", kind)
    for splits, count in ((("train", "val"), 4), (("val",), 2)):
        for _ in range(2):  # read, and from the cache
            with pytest.raises(UserError) as caught:
                prepare(root, f"data.cache={cache}", splits=splits)
            brightest = root / splits[0] / "images" / "0.npy"
            assert str(caught.value) == (
                f"data.white: not set, and {count} images of more than 8 bits store 255 at most ({brightest}), "
                "which is black where 65535 is white; set data.white=255"
            )
    assert prepare(root, f"data.cache={cache}", "data.white=255") == []
    path = root / "train" / "images" / "0.npy"
    assert np.array_equal(read_image(path, white=255), np.load(path))


@pytest.mark.parametrize("cache", ["off", "auto"])
def test_a_training_on_nearly_black_images_is_warned_of_once(cache: str, prepare: Prepare, tmp_path: Path) -> None:
    root = of_12_bits(tmp_path / "data")
    brightest = root / "train" / "images" / "0.png"
    for _ in range(2):  # read, and from the cache
        (line,) = prepare(root, f"data.cache={cache}")
        assert f"store 4080 at most ({brightest}), which is nearly black where 65535 is white" in line
        assert line.endswith("; set data.white=4095")
        assert "\n" not in line
    assert prepare(root, f"data.cache={cache}", "data.white=4095") == []


def test_nothing_is_said_of_images_that_use_their_bits(prepare: Prepare, tmp_path: Path) -> None:
    assert prepare(tree(tmp_path / "8", lambda values: values.astype(np.uint8) // 8, write_png, ".png")) == []
    assert prepare(tree(tmp_path / "16", lambda values: values.astype(np.uint16) * 257, write_png, ".png")) == []
    root = of_12_bits(tmp_path / "mixed")
    write_png(root / "train" / "images" / "2.png", np.full((24, 36, 3), 60000, np.uint16))
    assert prepare(root) == []  # the others are dark scenes


def test_how_opaque_a_pixel_is_says_nothing_of_white(prepare: Prepare, tmp_path: Path) -> None:
    def with_alpha(values: Array) -> Array:
        return np.dstack([values * 16, np.full(values.shape[:2], 65535)]).astype(np.uint16)

    root = tree(tmp_path / "data", with_alpha, write_png, ".png")
    for channels in (3, 4):
        (line,) = prepare(root, f"data.channels={channels}")
        assert line.endswith("; set data.white=4095")


@pytest.mark.parametrize(
    ("peak", "white"), [(1, 1), (255, 255), (256, 511), (2047, 2047), (4000, 4095), (16383, 16383)]
)
def test_white_is_the_most_that_so_many_bits_hold(peak: int, white: int) -> None:
    found = find_darkness([None, peak // 2, peak, 0])
    assert found is not None
    assert (found.images, found.peak, found.brightest, found.black) == (3, peak, 2, False)  # the first is of 8 bits
    assert found.text("x").endswith(f"data.white={white}")


@pytest.mark.parametrize("peaks", [[], [None], [0, 0], [16384], [100, 40000], [None, 65535]])
def test_there_may_be_nothing_to_say(peaks: list[int | None]) -> None:
    assert find_darkness(peaks) is None


def test_check_data_takes_no_dark_images_for_the_same(compose: Compose, tmp_path: Path) -> None:
    for name, make, error in (("black", lambda root: of_numbers(root, np.int64), True), ("dark", of_12_bits, False)):
        root = make(tmp_path / name)
        config = compose(*words(root), name="check_data")
        (finding,) = check_data(config, tmp_path / "out")["findings"]
        assert (finding["kind"], finding["error"]) == ("dark", error)
        assert "(train/0), which is" in finding["message"]
        first, second, other = (next(root.glob(f"{place}.*")) for place in
                                ("train/images/0", "train/images/1", "val/images/1"))  # fmt: skip
        second.write_bytes(first.read_bytes())
        other.write_bytes(first.read_bytes())
        found = {one["kind"]: one["examples"] for one in check_data(config, tmp_path / "out")["findings"]}
        assert found["duplicates"] == ["train/0 = train/1"]
        assert found["leak"] == ["train/0 = val/1"]
