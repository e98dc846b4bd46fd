"""No key is accepted and ignored: for each of every command's schema, two values that differ in what they do.

A row names the key, what is observed, the words that both sides have, and the words of either side.
"""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from segmentation.config import CONF, SCHEMAS
from segmentation.errors import UserError
from segmentation.evaluate import described_data, evaluate
from segmentation.inference.predictor import as_asked
from segmentation.models.files import load_network
from segmentation.registering import register
from segmentation.unused import UNUSED, is_below, unused
from tests import observed
from tests.attempts import attempt, first_words
from tests.conftest import TINY
from tests.fuzzing import schema_keys
from tests.keys import DATA, ROWS, Row
from tests.world import make_world


def see(row: Row, value: str, folder: Path) -> Any:
    """What is observed with one value; the line, where it is refused."""
    sign = "++" if value.startswith("{") and not value.startswith("{folder}") else ""  # of an open mapping
    words = [f"output={folder}/run", *TINY, *row.both, f"{sign}{row.key}={value}"]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=[word.replace("{folder}", str(folder)) for word in words])
    try:
        return row.observe(config, folder)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_two_values_of_a_key_differ(row: Row, tmp_path: Path) -> None:
    register()
    found = []
    for name, value in (("first", row.first), ("second", row.second)):
        folder = tmp_path / name
        observed.write_files(folder) if any("{folder}" in word for word in row.both) else folder.mkdir()
        seen = see(row, value, folder)
        found.append(repr(seen).replace(str(folder), ""))
        if name == "first":  # else two lines about some other word might differ; a note is only said in one
            assert not isinstance(seen, str) or row.key == "data.source"
    assert found[0] != found[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


class Network(torch.nn.Module):
    """Answers with its input, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []

    def forward(self, image: torch.Tensor, size: Any = None) -> torch.Tensor:
        self.asked.append((tuple(image.shape), image.mean().item()))
        wanted = tuple(image.shape[-2:]) if size is None else tuple(size)
        return torch.nn.functional.interpolate(image, wanted)


# By command, the keys that a test looks at, here or in test_keys_of_commands, unless they are of no use to it. What a
# repetition repeats, and a benchmark measures, is a training.
TRAINED = {row.key for row in ROWS}
SEEN = {
    "evaluate": set(DATA), "check_data": set(DATA), "train": TRAINED, "check_repeat": TRAINED, "benchmark": TRAINED,
}  # fmt: skip


# How a trained network is looked through, for `evaluate` and `predict` alike.
LOOKS = {
    "mode": (["mode=resize"], ["mode=window"]),
    "window.size": (["mode=window", "window.size=[32,48]"], ["mode=window", "window.size=[40,48]"]),
    "window.overlap": (["mode=window", "window.overlap=0"], ["mode=window", "window.overlap=0.5"]),
    "tta.flip": (["tta.flip=false"], ["tta.flip=true"]),
    "tta.scales": (["tta.scales=[1.0]"], ["tta.scales=[1.0,0.5]"]),
    "batch_size": (["mode=window", "batch_size=1"], ["mode=window", "batch_size=3"]),
}


@pytest.mark.parametrize("key", LOOKS)
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_look_is_as_asked(command: str, key: str, world: Path) -> None:
    register()
    seen = []
    for words in LOOKS[key]:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(command, overrides=[*first_words(command, world), *words])
        recorder = Network()
        options: Any = observed.settings_of(config, world)
        image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
        as_asked(recorder, options, [32, 48])(image, (64, 96))
        seen.append(recorder.asked)
    assert seen[0] != seen[1]


# (command, key): words whose outcomes differ, the first of which is accepted.
OUTCOMES = {
    ("evaluate", "model"): ("", "model=nowhere"),
    ("evaluate", "split"): ("split=test", "split=tset"),
    ("evaluate", "accelerator"): ("accelerator=cpu", "accelerator=tpu"),
    ("predict", "model"): ("", "model=nowhere"),
    ("predict", "input"): ("", "input=nowhere"),
    ("predict", "output"): ("output=other", "output=in/picture.png"),
    ("predict", "fps"): ("fps=null", "fps=-1"),
    ("predict", "white"): ("white=null", "white=-1"),
    ("predict", "max_pixels"): ("max_pixels=100000", "max_pixels=100"),
    ("predict", "accelerator"): ("accelerator=cpu", "accelerator=tpu"),
    ("export", "model"): ("", "model=nowhere"),
    ("export", "format"): ("format=onnx", "format=torch"),
    ("export", "output"): ("output=x.onnx", "output=x.pt2"),
    ("export", "size"): ("size=null", "size=[0,1]"),
    ("push", "model"): ("", "model=nowhere"),
    ("check_repeat", "runs"): ("runs=2", "runs=1"),
    ("check_repeat", "effect"): ("effect=null", "effect=nowhere"),
    ("benchmark", "benchmark.repetitions"): ("benchmark.repetitions=2", "benchmark.repetitions=0"),
    ("benchmark", "benchmark.sections"): ("", "+benchmark.sections.x=1"),
}


@pytest.mark.parametrize(("command", "key"), OUTCOMES)
def test_two_values_end_differently(command: str, key: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    first, second = (attempt(command, [word] if word else [], world) for word in OUTCOMES[command, key])
    if (command, key) == ("export", "model"):  # which reads it after what is asked here
        first, second = None, "model"
        with pytest.raises(UserError, match="model=nowhere"):
            load_network("nowhere")
    assert first is None
    assert second is not None


# Where a test of its own watches what the key does: it fails without it.
ELSEWHERE = {
    "probabilities": ("test_predict", "test_probabilities_and_uncertainty_are_those_of_the_mask"),
    "uncertainty": ("test_predict", "test_probabilities_and_uncertainty_are_those_of_the_mask"),
    "trust": ("test_export", "test_strangers_files"),
    "export tolerance": ("test_export", "test_what_differs_is_not_written"),
    "check_repeat tolerance": ("test_repeat", "test_noise_from_the_clock_is_found"),
    "repo": ("test_push", "test_the_models_files_arrive"),
    "private": ("test_push", "test_the_models_files_arrive"),
    "dry_run": ("test_push", "test_a_dry_run_sends_nothing"),
}


@pytest.mark.parametrize("command", SCHEMAS)
def test_every_key_of_every_command_is_watched(command: str) -> None:
    looks = set(LOOKS) if command in ("evaluate", "predict") else set()
    known = {key for name, key in OUTCOMES if name == command} | looks | SEEN.get(command, set())
    known |= {key.removeprefix(f"{command} ") for key in ELSEWHERE}
    idle = UNUSED.get(command, ())
    keys = set(schema_keys(command))
    assert {key for key in keys if not is_below(key, idle)} <= known
    assert set(idle) | {key for key in known if key not in ELSEWHERE} <= keys | {
        key.removeprefix(f"{command} ") for key in ELSEWHERE
    }


@pytest.mark.parametrize("key", ELSEWHERE)
def test_the_tests_elsewhere_are_there(key: str) -> None:
    module, name = ELSEWHERE[key]
    assert hasattr(importlib.import_module(f"tests.{module}"), name)
    assert key.rpartition(" ")[2] in (Path(__file__).parent / f"{module}.py").read_text()


@pytest.mark.parametrize("command", UNUSED)
def test_what_a_command_has_no_use_for_is_said(command: str) -> None:
    for key in UNUSED[command]:
        assert key in schema_keys(command)
        assert unused(command, [f"{key}=1", "data.size=[1,1]", f"+{key}.x=2"]) == [key, f"{key}.x"]
    assert not unused("train", [f"{key}=1" for key in UNUSED[command]])


def test_an_evaluation_takes_the_split_and_the_data_it_is_told(world: Path) -> None:
    register()
    scores = []
    for words in (["split=test"], ["split=val"], ["split=test", "+data.reader.seed=5"]):
        GlobalHydra.instance().clear()
        whole = [*first_words("evaluate", world), *words]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("evaluate", overrides=whole)
        scores.append(evaluate(config, described_data(config, whole, chosen=False), world / "scores"))
    assert len({score["pixel_accuracy"] for score in scores}) == 3
