"""The cache of decoded samples: the same samples as without, never stale, never half, never more than it may hold."""

import json
import logging
import os
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from segmentation.data import cache
from segmentation.data.balance import balanced_shares
from segmentation.data.cache import Store, cached, find_store
from segmentation.data.cached import CachedReader
from segmentation.data.reader import FileReader
from segmentation.data.samples import Sample
from segmentation.errors import UserError
from tests.conftest import Compose

GIB = 2**30


def draw(root: Path, count: int = 3) -> None:
    """Images of several sizes and their masks."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for index in range(count):
        size = (10 + index, 20)
        Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)).save(root / f"images/{index}.png")
        Image.fromarray(rng.integers(0, 3, size, np.uint8)).save(root / f"masks/{index}.png")


def files(root: Path, **changes: Any) -> FileReader:
    keywords: dict[str, Any] = {"num_classes": 3, "ignore_index": 255} | changes
    paths: Any = {"image": "images/{name}.png", "mask": "masks/{name}.png"}
    return FileReader(root=str(root), split="train", listing=None, **paths, **keywords)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    draw(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", GIB)


def test_samples_are_those_of_the_files(data: Path, store: Store) -> None:
    reader = files(data)
    kept = cached(reader, store, "reading")
    assert isinstance(kept, CachedReader)
    assert isinstance(cached(kept, store, "reading"), CachedReader)
    for copy in (kept, pickle.loads(pickle.dumps(kept))):
        assert copy.names == reader.names
        assert (len(copy), copy.files_hash()) == (3, reader.files_hash())
        for one, other in ((reader[index], copy[index]) for index in range(3)):
            assert one.name == other.name
            assert np.array_equal(one.image, other.image)
            assert np.array_equal(one.mask, other.mask)
            assert other.image.flags.writeable  # an augmentation may work in place


def test_files_are_decoded_once(data: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached(files(data), store, "reading")[2]
    monkeypatch.setattr(FileReader, "__getitem__", lambda *_: pytest.fail("decoded again"))
    assert np.array_equal(cached(files(data), store, "reading")[2].image, first.image)


def test_the_pixels_of_each_label_are_kept_too(data: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`data.balance` asks for them at every start, and reads no mask for it."""
    masks = np.stack([np.bincount(files(data)[index].mask.ravel(), minlength=256) for index in range(3)])
    uncached = [balanced_shares(files(data), 0.7, 3, void, quiet=True) for void in (255, 1)]
    kept = cached(files(data), store, "reading")
    assert isinstance(kept, CachedReader)
    monkeypatch.setattr(FileReader, "__getitem__", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr(CachedReader, "__getitem__", lambda *_: pytest.fail("read again"))
    assert np.array_equal(kept.pixels(), masks)
    some = kept.select([2, 0]).select([1])
    assert np.array_equal(some.pixels(), masks[:1])
    assert (some.image_file(0), some.mask_file(0)) == (data / "images/0.png", data / "masks/0.png")
    for shares, void in zip(uncached, (255, 1), strict=True):
        assert balanced_shares(kept, 0.7, 3, void, quiet=True).tolist() == shares.tolist()


def test_a_changed_file_or_label_map_is_read_anew(data: Path, store: Store) -> None:
    cached(files(data), store, "reading")
    Image.fromarray(np.full((10, 20), 2, np.uint8)).save(data / "masks/0.png")
    assert (cached(files(data), store, "reading")[0].mask == 2).all()
    assert (cached(files(data, label_map={2: 1}), store, "reading")[0].mask == 1).all()


def test_a_bad_file_is_named_and_nothing_is_left(data: Path, store: Store) -> None:
    (data / "images/2.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"2\.png: cannot be read"):
        cached(files(data), store, "reading")
    assert not [path for path in store.folder.iterdir() if path.suffix != ".lock"]


def test_a_torn_cache_is_made_again(data: Path, store: Store) -> None:
    cached(files(data), store, "reading")
    (file,) = store.folder.glob("*.samples")
    content, index = file.read_bytes(), file.with_suffix(".json")
    said = json.loads(index.read_text())
    spoilt: list[tuple[bytes, dict[str, Any]]] = [(content[:-1], said), (bytes(len(content)), said)]
    spoilt += [(content, said | {key: value}) for key, value in (
        ("channels", 3.0), ("seen", [300]), ("sizes", said["sizes"][:-1]), ("peaks", []), ("check_sum", 1), ("seen", 5),
    )]  # fmt: skip
    for samples, words in spoilt:
        file.write_bytes(samples)
        index.write_text(json.dumps(words))
        again = cached(files(data), store, "reading")
        assert len(again[2].image) == 12
        assert (file.read_bytes(), json.loads(index.read_text())) == (content, said)


def test_absent_classes_are_told_with_and_without_a_cache(
    data: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        caplog.clear()
        cached(files(data, num_classes=4), store, "reading").check()
        assert "no training pixel is of class 3" in caplog.text


def test_the_oldest_goes_when_there_is_no_room(tmp_path: Path) -> None:
    one = 4 * 20 * (10 + 11 + 12)
    store = Store(tmp_path / "store", 2 * one)
    made: list[Path] = []
    for number, name in enumerate("abc"):
        draw(tmp_path / name)
        reader = cached(files(tmp_path / name), store, "reading")
        assert isinstance(reader, CachedReader)
        made.append(reader.file)
        os.utime(reader.file, (number, number))
    assert sorted(store.folder.glob("*.samples")) == sorted(made[1:])
    assert len(reader[0].image) == 10


def test_a_run_does_not_take_the_room_of_its_own_splits(tmp_path: Path) -> None:
    for name in "ab":
        draw(tmp_path / name)
    store = Store(tmp_path / "store", 3 * 20 * (10 + 11 + 12) * 2)  # one and a half of them
    first = cached(files(tmp_path / "a"), store, "reading")
    assert isinstance(first, CachedReader)
    assert not isinstance(cached(files(tmp_path / "b"), store, "reading", keep=[first]), CachedReader)
    assert first.file.is_file()
    assert isinstance(cached(files(tmp_path / "b"), store, "reading"), CachedReader)
    assert not first.file.is_file()
    copy = pickle.loads(pickle.dumps(first))  # a worker that starts now reads the files
    assert isinstance(copy, FileReader)
    assert np.array_equal(copy[1].mask, first[1].mask)


class Inverted(FileReader):
    """Reads the same files otherwise."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return sample._replace(mask=2 - sample.mask)


class Known(Inverted):
    """And says what its samples depend on."""

    def fingerprint(self) -> str:
        return super().fingerprint() + "inverted"


class Bare:
    """A reader of somebody's own, without what a cache needs."""

    names: ClassVar = ["a"]

    def __len__(self) -> int:
        return 1


def test_readers_that_inherit_or_know_no_cache_are_their_own(data: Path, store: Store) -> None:
    plain = cached(files(data), store, "reading")
    keywords: Any = {"num_classes": 3, "ignore_index": 255, "image": "images/{name}.png", "mask": "masks/{name}.png"}
    for kind in (Inverted, Known):
        reader = kind(root=str(data), split="train", listing=None, **keywords)
        kept = cached(reader, store, "reading")
        assert (kept is reader) == (kind is Inverted)  # what it depends on, its parent cannot know
        assert np.array_equal(kept[0].mask, 2 - plain[0].mask)
    bare: Any = Bare()
    assert cached(bare, store, "reading") is bare


def test_what_is_larger_than_the_limit_is_not_kept(data: Path, tmp_path: Path) -> None:
    reader = files(data)
    assert cached(reader, Store(tmp_path / "store", 1000), "reading") is reader


def test_a_folder_that_cannot_be_written_costs_speed_alone(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    reader = files(data)
    with caplog.at_level(logging.WARNING):
        assert cached(reader, Store(tmp_path / "file" / "store", GIB), "reading") is reader
    assert "going on without" in caplog.text


def test_a_full_disk_leaves_no_half_cache(data: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "count_labels", full)  # called after the first sample is written
    reader = files(data)
    assert cached(reader, store, "reading") is reader
    assert not list(store.folder.glob("*.samples")) + list(store.folder.glob("*.partial"))


def test_what_a_killed_run_left_goes_after_a_day(data: Path, store: Store) -> None:
    store.folder.mkdir(parents=True, exist_ok=True)
    old, new = (store.folder / f"{name}-host-1.partial" for name in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    cached(files(data), store, "reading")
    assert not old.exists()
    assert new.exists()  # someone may be writing it


def test_where_caches_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert find_store("auto", 2) == Store(Path("/somewhere/segmentation"), 2 * GIB)
    assert find_store("/scratch", 0.5) == Store(Path("/scratch"), GIB // 2)
    assert find_store("off", 8) is None


def test_a_training_uses_it(tiny: Compose, tmp_path: Path) -> None:
    from segmentation.train import train

    for split in ("train", "val"):
        draw(tmp_path / split)
    settings = [
        "data=folder",
        f"data.root={tmp_path}",
        "data.splits={train:null,val:null,test:null}",
        "data.reader.image='{split}/images/{name}.png'",
        "data.reader.mask='{split}/masks/{name}.png'",
        "data.classes=[a,b,c]",
        "data.colours=[[0,0,0],[9,9,9],[99,99,99]]",
        "test=false",
    ]
    scores = []
    for kept in (str(tmp_path / "store"), "off"):
        scores.append(train(tiny(*settings, f"data.cache={kept}", f"output={tmp_path / kept[-3:]}")))
    assert len(list((tmp_path / "store").glob("*.samples"))) == 2
    assert scores[0] == scores[1]
