"""No command ignores a key that a training reads: what it does itself, or hands on, depends on the key's value."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from segmentation.benchmarks.contestants import WARM_UP, Ours
from segmentation.check_repeat import RECIPE, write_recipe
from segmentation.config import CONF
from segmentation.errors import UserError
from segmentation.registering import register
from segmentation.unused import UNUSED, is_below, unused
from tests import observed
from tests.attempts import first_words
from tests.conftest import TINY
from tests.fuzzing import schema_keys
from tests.keys import DATA, ROWS, Row
from tests.settings import plain
from tests.world import make_world

LOOKED: dict[str, Callable[[DictConfig, list[str], Path], Any]] = {
    "evaluate": observed.evaluated, "check_data": observed.surveyed,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


def look(command: str, key: str, value: str, both: Sequence[str], folder: Path, observe: Any) -> str:
    """What is observed of a command with one value, or the line where it is refused; without the folder's own name."""
    sign = "++" if value.startswith("{") and not value.startswith("{folder}") else ""
    words = [*both, f"{sign}{key}={value}"]
    if command != "evaluate":
        words = [word for word in words if not word.startswith("split=")]
    words = [word.replace("{folder}", str(folder)) for word in words]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(command, overrides=words)
    try:
        seen = repr(observe(config, words, folder))
    except UserError as error:
        seen = str(error)
    return seen.replace(str(folder), "")


@pytest.mark.parametrize(
    ("command", "key"), [(command, key) for command in LOOKED for key in DATA if key not in UNUSED[command]]
)
def test_two_values_of_a_key_of_the_data_differ(command: str, key: str, world: Path, tmp_path: Path) -> None:
    register()
    first, second, both = DATA[key]
    found = []
    for name, value in (("first", first), ("second", second)):
        observed.write_files(tmp_path / name)
        start = [word for word in first_words(command, world) if not (both and word.startswith("data."))]
        found.append(look(command, key, value, [*start, *both], tmp_path / name, LOOKED[command]))
    assert found[0] != found[1]


MEASURED = [row for row in ROWS if row.observe is observed.samples and not is_below(row.key, UNUSED["benchmark"])]


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: row.key)
def test_a_benchmark_loads_what_it_is_told(row: Row, tmp_path: Path) -> None:
    register()
    found = []
    for name, value in (("first", row.first), ("second", row.second)):
        observed.write_files(tmp_path / name)
        words = ["output={folder}/run", *TINY, *row.both, *(["data.folds=3"] if row.key == "data.group" else [])]
        found.append(look("benchmark", row.key, value, words, tmp_path / name, observed.measured))
    assert found[0] != found[1]


def test_a_benchmark_measures_the_training_it_is_told(tmp_path: Path) -> None:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        told = plain(compose("benchmark", overrides=[f"output={tmp_path}", *TINY, "lstm=snake", "data.limit=3"]))
    ours = Ours(told, tmp_path, 1).settings
    assert ours.pop("trainer") == told["trainer"] | {
        "max_epochs": -1,
        "args": {"max_steps": WARM_UP + 1, "limit_val_batches": 0},
    }
    assert ours == {key: value for key, value in told.items() if key != "trainer"}


def test_a_repetition_repeats_the_training_it_is_told(tmp_path: Path) -> None:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        told = compose("check_repeat", overrides=[f"output={tmp_path}", *TINY, "lstm=snake", "data.limit=3"])
    given: Any = OmegaConf.to_container(told)
    write_recipe(told, tmp_path)
    recipe: Any = OmegaConf.to_container(OmegaConf.load(tmp_path / f"{RECIPE}.yaml"))
    assert recipe["callbacks"].pop("recorder")
    training = {key.partition(".")[0] for key in schema_keys("train")}
    assert {key: recipe[key] for key in training} == {key: given[key] for key in training}


@pytest.mark.parametrize(("command", "words", "idle"), [
    ("check_data", ["data=folder", "data.root=x", "data.classes=[a,b]", "data.size=[32,48]"], ["data.size"]),
    ("check_data", ["data.size=[32,48]"], []),
    ("train", ["find=lr", "ckpt=auto", "train=false", "optimizer.lr=1", "data.batch_size=4"],
     ["ckpt", "train", "optimizer.lr"]),
    ("train", ["find=batch_size", "test=false", "data.batch_size=4"], ["test", "data.batch_size"]),
    ("train", ["ckpt=auto", "train=false"], []),
    ("benchmark", ["callbacks.best.monitor=val/loss", "callbacks.progress.seconds=2", "callbacks=ema"],
     ["callbacks.best.monitor", "callbacks"]),
])  # fmt: skip
def test_what_is_of_no_use_beside_others_is_said(command: str, words: list[str], idle: list[str]) -> None:
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(command, overrides=words)
    assert unused(command, words, config) == idle
