"""Every kind of bad data is read rightly, or refused in one line that names the file and the cure."""

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from segmentation import check_data
from segmentation.analysis import plots
from segmentation.config import CONF, DataConfig
from segmentation.data.images import read_image
from segmentation.data.module import DataModule
from segmentation.errors import UserError
from segmentation.predict import predict
from tests import settings
from tests.conftest import Record
from tests.corpus import images, lists, masks
from tests.corpus.kinds import Place, Reads, Refused, labels, picture

Expected = Reads | Refused
Spoil = Callable[[Place], Expected]


def kinds(*modules: ModuleType) -> dict[str, Spoil]:
    """The functions of a place that stand in these modules."""
    found: dict[str, Spoil] = {}
    for module in modules:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and list(inspect.signature(function).parameters) == ["place"]:
                found[name] = function
    return found


IMAGES, OTHERS = kinds(images), kinds(masks, lists)
EVERY = {**IMAGES, **OTHERS}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    settings.saved(folder, size=[32, 32])
    return folder


@pytest.fixture(autouse=True)
def _pixels_allowed() -> Iterator[None]:
    """What `predict` allows holds for its process."""
    allowed = Image.MAX_IMAGE_PIXELS
    yield
    Image.MAX_IMAGE_PIXELS = allowed


def spoil(kind: str, root: Path) -> tuple[Place, Expected]:
    if kind == "unreadable" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    place = Place(root)
    return place, EVERY[kind](place)


def data_of(place: Place, expected: Expected) -> dict[str, Any]:
    """The keys of `data`."""
    base = {"root": str(place.root), "classes": ["a", "b", "c"], "num_workers": 0, "cache": "off"}
    yaml = OmegaConf.create({"data": OmegaConf.load(CONF / "data" / "folder.yaml")}).data
    config: Any = OmegaConf.merge(OmegaConf.structured(DataConfig), yaml)
    OmegaConf.set_struct(config, False)
    config = OmegaConf.merge(config, base, dict(expected.words))
    plain: Any = OmegaConf.to_container(OmegaConf.create({"data": config}).data, resolve=True)
    plain["splits"] = expected.words.get("splits", {"train": None, "val": None})
    return dict(plain)


def assert_refused(said: str, expected: Expected) -> None:
    assert isinstance(expected, Refused), said
    assert "\n" not in said
    said.encode()  # what is no Unicode, a terminal cannot show
    for words in expected.says:
        assert words in said


def assert_pixels(image: Any, expected: Reads) -> None:
    wanted = picture() if expected.image is None else expected.image
    assert image.shape == wanted.shape
    assert np.abs(image.astype(int) - wanted).max() <= expected.within


@pytest.mark.timeout(60)  # a pipe must not be waited for
@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("cache", ["off", "on"])
def test_training_reads_or_refuses(kind: str, cache: str, tmp_path: Path) -> None:
    place, expected = spoil(kind, tmp_path / "data")
    words = data_of(place, expected) | {"cache": "off" if cache == "off" else str(tmp_path / "cache")}
    try:
        data = DataModule(words, {}, 0)
        data.prepare("train", "val")
    except UserError as error:
        assert_refused(str(error), expected)
        return
    assert isinstance(expected, Reads), "read, but should not be"
    reader = data.reader("train")
    assert reader.names.count(expected.name) == 1
    sample = reader[reader.names.index(expected.name)]
    assert_pixels(sample.image, expected)
    assert np.array_equal(sample.mask, labels() if expected.mask is None else expected.mask)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", EVERY)
def test_check_data_reads_or_refuses(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "save", lambda *_: None)  # drawing the sheet takes longer than all the rest
    place, expected = spoil(kind, tmp_path / "data")
    config = OmegaConf.create({"data": data_of(place, expected)})
    try:
        content = check_data.check_data(config, tmp_path)
    except UserError as error:
        assert_refused(str(error), expected)
        return
    errors = [finding for finding in content["findings"] if finding["error"]]
    if isinstance(expected, Reads):
        assert errors == []
    else:
        assert_refused("; ".join([one["message"] + ": " + ", ".join(one["examples"]) for one in errors]), expected)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", IMAGES)
def test_predict_reads_or_refuses(kind: str, model: Path, tmp_path: Path) -> None:
    """The image alone, and the folder that it is in."""
    place, expected = spoil(kind, tmp_path / "data")
    for source, other in ((place.image, tmp_path / "one"), (place.image.parent, tmp_path / "all")):
        try:
            written = predict(str(model), str(source), str(other), "cpu")
        except UserError as error:
            assert_refused(str(error), expected)
            continue
        assert isinstance(expected, Reads), "read, but should not be"
        (mask,) = [file for file in written if file.stem == place.image.stem]
        assert Image.open(mask).size == read_image(place.image).shape[1::-1]
        assert_pixels(read_image(place.image), expected)


def test_there_are_at_least_forty_kinds(record_property: Record) -> None:
    assert len(EVERY) >= 40
    record_property("kinds of bad data", len(EVERY))
