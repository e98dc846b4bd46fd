"""Splits of the project's own: no sample in two, no group in two, the same by the same seed."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segmentation.data.folds import deal, thin_out
from segmentation.data.module import DataModule
from segmentation.errors import UserError
from segmentation.train import train
from tests.conftest import Compose
from tests.settings import plain


def tree(root: Path, videos: str = "aaaabbccde", *, test: bool = False) -> Path:
    for split in ("train", "val", *(["test"] if test else [])):
        for kind, shape in (("images", (4, 5, 3)), ("masks", (4, 5))):
            (root / split / kind).mkdir(parents=True)
            for number, video in enumerate(videos):
                array = np.full(shape, number % 2 if kind == "masks" else number, np.uint8)
                Image.fromarray(array).save(root / split / kind / f"{video}_{number}.png")
    return root


def load(compose: Compose, root: Path, *words: str) -> DataModule:
    settings = plain(compose("data=folder", f"data.root={root}", "data.classes=[no,yes]", *words))
    return DataModule(settings["data"], {}, 0)


def test_folds_part_the_training_images(compose: Compose, tmp_path: Path) -> None:
    tree(tmp_path)
    whole = set(load(compose, tmp_path).reader("train").names)
    held_out = []
    for fold in range(3):
        data = load(compose, tmp_path, "data.folds=3", f"data.fold={fold}")
        data.prepare("train", "val")
        train_names, val_names = (data.reader(split).names for split in ("train", "val"))
        assert set(train_names) | set(val_names) == whole
        assert not set(train_names) & set(val_names)
        assert data.reader("val")[1].mask[0, 0] == int(val_names[1][2:]) % 2  # through the cache, the right sample
        held_out += val_names
        assert data.test_split == "test"  # the data set's own val, by which nothing is chosen any more
        assert len(data.reader("test")) == 10
        assert data.contract("val")["num_images"] == len(val_names)
    assert sorted(held_out) == sorted(whole)
    hashes = {
        load(compose, tmp_path, "data.folds=3", f"data.fold={fold}").contract("val")["files_hash"] for fold in range(3)
    }
    assert len(hashes) == 3


def test_a_test_split_stays_the_test_split(compose: Compose, tmp_path: Path) -> None:
    data = load(compose, tree(tmp_path, test=True), "data.folds=2")
    assert data.splits.sources == {"train": "train", "val": "train", "test": "test"}


def test_no_group_is_in_two_folds(compose: Compose, tmp_path: Path) -> None:
    tree(tmp_path)
    for fold in range(3):
        data = load(compose, tmp_path, "data.folds=3", f"data.fold={fold}", "data.group='(.)_'")
        videos = [{name[0] for name in data.reader(split).names} for split in ("train", "val")]
        assert not videos[0] & videos[1]


def test_folds_are_balanced_and_of_their_seed() -> None:
    groups = [str(number % 50) for number in range(400)]
    first = deal(groups, 5, 0)
    assert set(Counter(first).values()) == {80}
    assert deal(groups, 5, 0) == first
    assert deal(groups, 5, 1) != first
    assert all(len({fold for fold, group in zip(first, groups, strict=True) if group == name}) == 1 for name in groups)


def test_a_limit_takes_samples_at_even_distances(compose: Compose, tmp_path: Path) -> None:
    data = load(compose, tree(tmp_path), "data.limit=3")
    data.prepare("train", "val")
    assert [name[2:] for name in data.reader("train").names] == ["0", "4", "9"]
    assert [int(data.reader("train")[index].image[0, 0, 0]) for index in range(3)] == [0, 4, 9]
    assert thin_out(5, 9) == [0, 1, 2, 3, 4]


def test_drawn_scenes_fold_too(tiny: Compose) -> None:
    def reader(*words: str) -> Any:
        return DataModule(plain(tiny(*words))["data"], {}, 0).reader("val")

    whole = DataModule(plain(tiny())["data"], {}, 0).reader("train")
    held_out = reader("data.folds=4", "data.fold=1")
    assert len(held_out) == 2
    for index, name in enumerate(held_out.names):
        assert np.array_equal(held_out[index].image, whole[whole.names.index(name)].image)
    assert held_out.files_hash() != reader("data.folds=4", "data.fold=2").files_hash()
    assert len(train(tiny("data.folds=4", "data.limit=6"))["per_class"]) == 9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.folds=1"], "data.folds=1: give at least 2"),
        (["data.folds=3", "data.fold=3"], "data.fold=3: with data.folds=3 give 0 to 2"),
        (["data.folds=6", "data.group='(.)_'"], "has only 5 groups"),
        (["data.folds=11"], "data.folds=11"),
        (["data.limit=0"], "data.limit=0: give the number"),
    ],
)
def test_impossible_folds_are_named(words: list[str], said: str, compose: Compose, tmp_path: Path) -> None:
    tree(tmp_path)
    with pytest.raises(UserError) as caught:
        load(compose, tmp_path, *words).reader("train")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ("'X(\\d+)'", "names no group of 10 samples"),
        ("'^(x)?'", "names no group of 10 samples"),
        ("abc", "put what names the video in parentheses"),
        ("'('", "not a regular expression"),
    ],
)
def test_groups_that_are_none_are_named(group: str, said: str, compose: Compose, tmp_path: Path) -> None:
    tree(tmp_path)
    with pytest.raises(UserError) as caught:
        load(compose, tmp_path, "data.folds=2", f"data.group={group}").reader("train")
    assert said in str(caught.value)
