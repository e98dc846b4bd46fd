"""What check_data proposes to a training: words that it takes, and only where there is something to say."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hydra.utils import instantiate
from PIL import Image

from segmentation.check_data import check_data
from segmentation.config import CONF
from segmentation.data.module import DataModule
from segmentation.losses import CrossEntropy
from tests.conftest import Compose
from tests.settings import plain

WORDS = ("data=folder", "data.classes=[no,yes]", "data.splits={train:null,val:null,test:null}")
Arrays = list[npt.NDArray[Any]]


def tree(root: Path, channels: int, kind: Any, top: int) -> Arrays:
    """Arrays of two sizes and their masks; those of the training."""
    training = []
    for split, count in (("train", 3), ("val", 1)):
        for part in ("images", "masks"):
            (root / split / part).mkdir(parents=True)
        for index in range(count):
            rng = np.random.default_rng((count, index))
            shape = (20 + 10 * index, 30)
            image = (rng.random((*shape, channels)) * np.linspace(0.3, 1, channels) * top).astype(kind)
            image[0, 0] = top
            np.save(root / split / "images" / f"{index}.npy", image)
            Image.fromarray(rng.integers(0, 2, shape, np.uint8)).save(root / split / "masks" / f"{index}.png")
            training += [image] * (split == "train")
    return training


Check = Callable[..., dict[str, Any]]


@pytest.fixture
def check(compose: Compose, tmp_path: Path) -> Check:
    def run(*words: str) -> dict[str, Any]:
        config = compose(*WORDS, f"data.root={tmp_path / 'data'}", *words, name="check_data")
        return check_data(config, tmp_path / "out")

    return run


def words_in(text: str) -> list[str]:
    """The overrides that are proposed, as a shell takes them."""
    return [word for quoted in re.findall(r"'(?:loss|data)[^']*'", text) for word in shlex.split(quoted)]


@pytest.mark.parametrize(
    ("channels", "kind", "top", "white"),
    [(5, np.uint8, 255, None), (1, np.uint8, 255, None), (3, np.uint16, 65535, None), (4, np.uint16, 4095, 4095)],
)
def test_mean_and_std_are_those_of_the_training_images(
    channels: int,
    kind: Any,
    top: int,
    white: int | None,
    check: Check,
    tiny: Compose,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = tree(tmp_path / "data", channels, kind, top)
    form = [f"data.channels={channels}", f"data.white={'null' if white is None else white}"]
    proposed = check(*form)["normalisation"]
    values = np.concatenate([image.reshape(-1, channels) / top for image in images])
    assert proposed["mean"] == pytest.approx(values.mean(0), abs=0.004)  # 8 bits of each are left
    assert proposed["std"] == pytest.approx(values.std(0), abs=0.004)
    said = [word for word in words_in(capsys.readouterr().out) if word.startswith("data.")]
    assert [word.partition("=")[0] for word in said] == ["data.mean", "data.std"]
    settings = plain(tiny(*WORDS, f"data.root={tmp_path / 'data'}", *form, *said, "augment=none"))["data"]
    assert DataModule(settings, {}, 0).config["mean"] == proposed["mean"]


def test_where_the_backbones_own_do_or_white_is_not_known_none_are_proposed(
    check: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, top, names in ((np.uint8, 255, set()), (np.uint16, 4095, {"dark"})):
        tree(tmp_path / "data", 3, kind, top)
        content = check()
        assert content["normalisation"] is None
        assert {finding["kind"] for finding in content["findings"]} - {"sizes"} == names
        assert "data.mean" not in capsys.readouterr().out
        (tmp_path / "data").rename(tmp_path / f"{top}")


def test_a_channel_that_is_the_same_everywhere_can_be_divided_by(check: Check, tiny: Compose, tmp_path: Path) -> None:
    for image in tree(tmp_path / "data", 2, np.uint8, 255):
        image[..., 1] = 7
        np.save(tmp_path / "data" / "train" / "images" / f"{len(image) // 10 - 2}.npy", image)
    proposed = check("data.channels=2")["normalisation"]
    assert proposed["std"][1] == pytest.approx(1 / 255, abs=1e-4)
    settings = plain(tiny(*WORDS, f"data.root={tmp_path / 'data'}", "data.channels=2"))["data"]
    DataModule(settings | proposed, {}, 0)


def test_weights_are_said_of_the_losses_that_take_them(
    check: Check, compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path / "data", 3, np.uint8, 255)
    weights = check()["class_weights"]
    text = capsys.readouterr().out
    (word,) = words_in(text)
    nested = re.findall(r"loss\.terms\.cross_entropy\.class_weights", text)[0]
    taking = {}
    for path in sorted((CONF / "loss").glob("*.yaml")):
        said = [f"loss={path.stem}"] * (f"loss={path.stem}" in text)
        key = word if path.stem == "cross_entropy" else f"{nested}={word.partition('=')[2]}"
        try:
            loss = instantiate(plain(compose(f"loss={path.stem}", key))["loss"])
        except Exception:
            assert not said
            continue
        assert said
        taking[path.stem] = [part for part in loss.modules() if isinstance(part, CrossEntropy)]
    assert set(taking) == {"cross_entropy", "boundary", "combined"}
    for (part,) in taking.values():
        assert part.weight is not None
        assert part.weight.tolist() == pytest.approx(weights)


@pytest.mark.parametrize("spoil", ["unreadable", "void"])
def test_nothing_is_proposed_where_nothing_is_known(
    spoil: str, check: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path / "data", 3, np.uint8, 255)
    for path in (tmp_path / "data" / "train" / "masks").iterdir():
        if spoil == "void":
            Image.fromarray(np.full_like(np.asarray(Image.open(path)), 255)).save(path)
        else:
            path.write_bytes(b"")
    content = check()
    assert any(finding["error"] for finding in content["findings"])
    assert content["class_weights"] is None
    assert content["normalisation"] is None
    text = capsys.readouterr().out
    assert words_in(text) == []
    assert "weights" not in text
