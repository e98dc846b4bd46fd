"""What a stranger's files cannot do: run code, take memory that they do not have, or reach out of their folder."""

import itertools
import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from segmentation import checkpoints
from segmentation.analysis.runs import find_runs
from segmentation.checkpoints import LAST, read_checkpoint
from segmentation.data.masks import read_labels
from segmentation.errors import UserError
from segmentation.models.backbones import file_state
from segmentation.models.files import load_model
from segmentation.reading import read_arrays, read_configuration, read_json, read_yaml
from segmentation.train import train
from tests import malicious, settings
from tests.conftest import Compose, Record
from tests.made_up import make_run
from tests.malicious import npy_header

TORCH_READERS: dict[str, Callable[[Path], Any]] = {"ckpt": read_checkpoint, "weights": file_state}
MIB = 2**20
SMP = "segmentation_models_pytorch"


def refused(read: Callable[[Path], Any], path: Path, marker: Path) -> str:
    """The line with which a file is refused; nothing in it ran."""
    with pytest.raises(UserError) as caught:
        read(path)
    assert not marker.exists()
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value) or str(path.parent) in str(caught.value)
    return str(caught.value)


def test_the_corpus_would_run(tmp_path: Path) -> None:
    """Or the tests below could not fail."""
    for name, payload in malicious.payloads(tmp_path / "marker").items():
        for form, content in malicious.forms([payload]).items():
            (tmp_path / "evil").write_bytes(content)
            if form.startswith("pickle"):
                pickle.loads(content)
            else:
                torch.load(tmp_path / "evil", weights_only=False)
            found = [*tmp_path.glob("marker*")]
            assert found, (name, form)
            found[0].unlink()


@pytest.mark.parametrize("reader", TORCH_READERS)
def test_no_pickle_in_a_checkpoint_or_in_weights_is_executed(
    reader: str, tmp_path: Path, record_property: Record
) -> None:
    marker, path, tries = tmp_path / "marker", tmp_path / "evil.ckpt", 0
    for payload in malicious.payloads(marker).values():
        for content in malicious.nestings(payload).values():
            for form in malicious.forms(content).values():
                path.write_bytes(form)
                refused(TORCH_READERS[reader], path, marker)
                tries += 1
    assert tries >= 200
    record_property(f"malicious pickles, read as {reader}", f"{tries} refused")


def test_lightnings_own_reading_of_a_checkpoint_runs_nothing(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one that was exchanged after it was looked at, where torch is told to read pickles unless asked not to."""
    marker, path = tmp_path / "marker", tmp_path / "given.ckpt"
    words = ("test=false", "logger=none", "callbacks.inspection.images=0")
    train(tiny(*words))
    whole: dict[str, Any] = torch.load(tmp_path / "run" / LAST, weights_only=True)
    call = malicious.Runs(Path.touch, marker)
    evil = whole | {"hyper_parameters": {"_instantiator": call, "_class_path": "os.system"}}
    torch.save(whole | {"hyper_parameters": {"_instantiator": "os.system"}}, path)
    train(tiny(*words, f"ckpt={path}"))  # a word, that nobody calls
    asked = checkpoints.resume_point

    def exchange(*arguments: Any) -> tuple[int, int]:
        point = asked(*arguments)
        torch.save(evil, path)
        return point

    monkeypatch.setattr(checkpoints, "resume_point", exchange)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        train(tiny(*words, f"ckpt={path}"))
    assert not marker.exists()
    torch.load(path)
    assert marker.exists()  # or it could not have failed


@pytest.mark.parametrize("file", ["confusion.npz", "analysis.npz"])
def test_no_pickle_in_arrays_is_executed(file: str, tmp_path: Path) -> None:
    make_run(tmp_path / "run", "none", 0, 0.5)
    run, marker = find_runs(tmp_path)[0][0], tmp_path / "marker"
    read = {"confusion.npz": run.confusions, "analysis.npz": run.analysis}[file]
    path = run.folder / file
    for payload in malicious.payloads(marker).values():
        for names in (["confusion", "names"], ["names"], ["field", "slot_field"], ["orders"]):
            malicious.npz(path, **{name: np.array([payload], dtype=object) for name in names})
            assert "objects" in refused(lambda _: read(), path, marker)
        path.write_bytes(pickle.dumps(payload))  # np.load would take it for a pickled object
        refused(lambda _: read(), path, marker)


def test_a_mask_is_a_picture_and_no_array_of_objects(tmp_path: Path) -> None:
    for payload in malicious.payloads(tmp_path / "marker").values():
        path = tmp_path / "mask.npy"
        np.save(path, np.array([payload], dtype=object), allow_pickle=True)
        refused(read_labels, path, tmp_path / "marker")
        refused(read_labels, path.rename(tmp_path / "mask.png"), tmp_path / "marker")


def taken(work: Callable[[], object]) -> float:
    """MiB that Python and NumPy allocate at the peak of some work."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


BOMBS: dict[str, Callable[[Path], object]] = {
    "terabytes by the header": lambda path: malicious.packed(path, confusion=npy_header("(1000000, 1000, 1000)")),
    "more than can be counted": lambda path: malicious.packed(path, confusion=npy_header(f"({2**62}, 64)")),
    "negative": lambda path: malicious.packed(path, confusion=npy_header("(-1,)") + bytes(8)),
    "zeros": lambda path: malicious.packed(
        path, confusion=npy_header("(4, 2097152)") + bytes(64 * MIB), names=npy_header("(0,)", "<U1")
    ),
    "no array": lambda path: malicious.packed(path, confusion=b"hello"),
    "no zip": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
    "empty": lambda path: path.write_bytes(b""),
    "other shape": lambda path: malicious.npz(path, confusion=np.zeros((4, 2, 2), int), names=np.array(list("abcd"))),
    "floats": lambda path: malicious.npz(path, confusion=np.zeros((1, 3, 3)), names=np.array(["a"])),
    "nothing of it": lambda path: malicious.npz(path, other=np.zeros(3)),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_the_size_of_arrays_is_known_before_memory_is_taken(bomb: str, tmp_path: Path) -> None:
    make_run(tmp_path / "run", "none", 0, 0.5)
    run = find_runs(tmp_path)[0][0]
    BOMBS[bomb](run.folder / "confusion.npz")

    def read(path: Path) -> object:  # zeros are of a size that could be true: the limit alone refuses them
        return read_arrays(path, most=MIB) if bomb == "zeros" else run.confusions()

    assert taken(lambda: refused(read, run.folder / "confusion.npz", tmp_path / "marker")) < 8


HEADERS: dict[str, tuple[Any, bytes]] = {
    "terabytes": ({"w": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}, b""),
    "overflow": ({"w": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]}}, bytes(16)),
    "overlap": ({name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in "ab"}, bytes(16)),
    "shape and length differ": ({"w": {"dtype": "F32", "shape": [5], "data_offsets": [0, 16]}}, bytes(16)),
    "negative": ({"w": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}, bytes(16)),
    "no JSON": (b"{" * 100, b""),
    "deep JSON": (b"[" * 100_000, b""),
    "another's tensors": ({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(16)),
    "none": ({}, b""),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as a run leaves it; tests copy what they change."""
    folder = tmp_path_factory.mktemp("model")
    settings.saved(folder, size=[32, 48], lstm__hidden_size=4)
    return folder


def copy(model: Path, folder: Path) -> Path:
    for file in ("model.json", "model.safetensors"):
        (folder / file).write_bytes((model / file).read_bytes())
    return folder


@pytest.mark.parametrize("name", HEADERS)
def test_weights_that_lie_about_their_size_are_refused(name: str, model: Path, tmp_path: Path) -> None:
    header, data = HEADERS[name]
    malicious.safetensors(copy(model, tmp_path) / "model.safetensors", header, data)
    refused(load_model, tmp_path, tmp_path / "marker")


def test_a_header_longer_than_its_file_is_refused(model: Path, tmp_path: Path) -> None:
    (copy(model, tmp_path) / "model.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    refused(load_model, tmp_path, tmp_path / "marker")


LARGE: dict[str, dict[str, Any]] = {
    "hidden_size": {"lstm": {"hidden_size": 10**9}},
    "hidden_size within its range": {"lstm": {"hidden_size": 60_000}},
    "num_layers": {"lstm": {"num_layers": 10**6}},
    "a decoder's channels": {"decoder": {"_target_": f"{SMP}.FPN", "decoder_pyramid_channels": 10**6}},
    "a decoder's many channels": {"decoder": {"_target_": f"{SMP}.Unet", "decoder_channels": [10**6] * 5}},
    "orders": {"lstm": {"order": ["rows"] * 300_000}},
    "a backbone's depth": {"backbone": {"name": "resnet18", "args": {"layers": [10**7, 1, 1, 1]}}},
    "a backbone's width": {"backbone": {"name": "resnet18", "args": {"stem_width": 10**7}}},
    "a transformer's positions": {
        "backbone": {"name": "swinv2_cr_tiny_224", "args": {"img_size": 10**6}},
        "decoder": {"_target_": "segmentation.models.decoders.FCN"},
    },
    "another backbone": {"backbone": {"name": "convnext_xxlarge"}},
}  # fmt: skip


def rewritten(folder: Path, changes: dict[str, dict[str, Any]], **meta: Any) -> Path:
    """The model with a few keys of its description changed."""
    content = json.loads((folder / "model.json").read_text())
    for group, keys in changes.items():
        content["model"][group] |= keys
    content["meta"] |= meta
    (folder / "model.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("name", LARGE)
def test_a_description_of_more_than_its_weights_takes_no_memory(name: str, model: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    rewritten(copy(model, tmp_path), LARGE[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(load_model, tmp_path, tmp_path / "marker")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 300  # MiB; the smallest asks for 700


WRONG_META: dict[str, Any] = {
    "size": [10**6, 10**6], "classes": [], "colours": [[300, 0, 0]] * 3, "ignore_index": -1,
}  # fmt: skip


@pytest.mark.parametrize("key", WRONG_META)
def test_meta_that_no_network_has_is_refused(key: str, model: Path, tmp_path: Path) -> None:
    rewritten(copy(model, tmp_path), {}, **{key: WRONG_META[key]})
    refused(load_model, tmp_path, tmp_path / "marker")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, "NaN", "", "\0", '{"format": 1}', '{"x": "' + "y" * 2 * MIB + '"}'],
    ids=["deep", "deep objects", "NaN", "empty", "zero", "half", "long"],
)  # fmt: skip
def test_a_description_is_short_and_flat(text: str, model: Path, tmp_path: Path) -> None:
    (copy(model, tmp_path) / "model.json").write_text(text)
    refused(load_model, tmp_path, tmp_path / "marker")


def test_json_and_yaml_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x"
    aliases = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in itertools.pairwise("abcdefghi")
    )
    for text, read in (
        ("[" * 100_000, read_json), ("x" * 10, read_json), ("1" * 5000, read_json), (aliases, read_yaml),
        ("[" * 5000, read_yaml), ("a: !!python/object/apply:os.system [true]", read_yaml), ("a: [", read_yaml),
        ("- 1", read_configuration),
    ):  # fmt: skip
        path.write_text(text)
        refused(read, path, tmp_path / "marker")
    path.write_bytes(b"\xff\xfe")
    refused(read_json, path, tmp_path / "marker")
    with path.open("wb") as file:
        file.truncate(65 * MIB)
    refused(read_json, path, tmp_path / "marker")


def test_a_runs_configuration_reads_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    path = tmp_path / "config.yaml"
    path.write_text("a: ${oc.env:SECRET}\nb: ${c}\nc: 1\nd: [{e: 'x${oc.decode:${oc.env:SECRET}}'}]\n")
    plain = OmegaConf.to_container(read_configuration(path), resolve=True)
    assert plain == {"a": "${oc.env:SECRET}", "b": 1, "c": 1, "d": [{"e": "x${oc.decode:${oc.env:SECRET}}"}]}
    assert read_configuration(path, trust=True).a == "hunter2"
