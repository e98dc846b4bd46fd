"""No key is accepted and ignored: for each of every command's schema, two values that differ in what they do.

A row names the key, what is observed, the words that both sides have, and the words of either side.
"""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from segmentation.benchmarks.contestants import WARM_UP, Ours
from segmentation.check_repeat import RECIPE, write_recipe
from segmentation.config import CONF, SCHEMAS, register
from segmentation.data.scenes import CLASSES
from segmentation.errors import UserError
from segmentation.evaluate import described_data, evaluate
from segmentation.inference.predictor import as_asked
from segmentation.models.files import load_network
from segmentation.unused import UNUSED, is_below, unused
from tests import observed
from tests.attempts import attempt, first_words
from tests.conftest import TINY
from tests.fuzzing import schema_keys
from tests.observed import Observe
from tests.settings import plain
from tests.world import make_world


class Row(NamedTuple):
    key: str
    observe: Observe
    first: str
    second: str
    both: tuple[str, ...] = ()


FILES = ("data=folder", "data.root={folder}/a", "data.classes=[no,yes]", "data.size=[32,48]", "data.batch_size=2",
         "data.cache={folder}/cache", "data.channels=1", "augment=none", "data.colours=null",
         "data.splits={train:null,val:null,test:null}")  # fmt: skip
FOLDS = ("data.folds=3", "data.group='(v.)_'")
SCALED = ("lstm.order=[rows,columns]", "decoder=fpn")
n, t, s = observed.network, observed.task, observed.samples
ROWS = [
    Row("seed", observed.trained, "0", "1", ("trainer.fast_dev_run=true", "test=false")),
    Row("train", observed.resumed, "true", "false"),
    Row("test", observed.run, "true", "false"),
    Row("find", observed.run, "null", "batch_size", ("test=false",)),
    Row("ckpt", observed.resumed, "null", "auto"),
    Row("resume", observed.resumed, "false", "true"),
    Row("monitor", observed.watchers, "val/mean_iou", "val/loss"),
    Row("output", observed.watchers, "a", "b"),
    Row("data.name", observed.card, "hither", "thither", ("trainer.fast_dev_run=true",)),
    Row("data.root", s, "{folder}/a", "{folder}/b", FILES),
    Row("data.reader", s, "{seed:0}", "{seed:1}"),
    Row("data.splits", s, "{train:8,val:3,test:3}", "{train:4,val:3,test:3}"),
    Row("data.classes", s, "[no,yes]", "[yes,no]", FILES),
    Row("data.colours", s, "null", "[[1,2,3],[4,5,6]]", FILES),
    Row("data.ignore_index", s, "255", "200"),
    Row("data.channels", s, "1", "3", FILES),
    Row("data.white", s, "null", "4095", FILES),
    Row("data.mean", n, "null", "[0.1,0.2,0.3]"),
    Row("data.std", n, "null", "[0.1,0.2,0.3]"),
    Row("data.shown", s, "null", "[2,1,0]"),
    Row("data.group", s, "null", "'(v.)_'", FILES),
    Row("data.folds", s, "null", "3", FILES),
    Row("data.fold", s, "0", "1", FILES + FOLDS),
    Row("data.fold_seed", s, "0", "5", (*FILES, "data.folds=3")),
    Row("data.limit", s, "null", "2", FILES),
    Row("data.download", s, "false", "true"),
    Row("data.source", s, "{note:here}", "{note:there}", ("data.download=true",)),
    Row("data.balance", s, "0", "1", (*FILES, "data.batch_size=6")),
    Row("data.size", s, "[32,48]", "[64,96]"),
    Row("data.check", s, "true", "false", FILES),
    Row("data.cache", s, "{folder}/cache", "off", FILES),
    Row("data.cache_gib", s, "8", "0", FILES),
    Row("data.batch_size", s, "4", "2"),
    Row("data.eval_batch_size", s, "1", "2"),
    Row("data.num_workers", s, "0", "1"),
    Row("augment", s, "default", "none"),
    Row("backbone.name", n, "test_resnet", "test_byobnet"),
    Row("backbone.weights", n, "none", "package", ("backbone.name=tf_efficientnet_lite0",)),
    Row("backbone.output_stride", n, "16", "32"),
    Row("backbone.checkpointing", n, "false", "true"),
    Row("backbone.args", n, "{act_layer:relu}", "{act_layer:gelu}"),
    Row("decoder", n, "fcn", "fpn"),
    Row("lstm._target_", n, "segmentation.models.controls.MLP", "segmentation.models.controls.identity"),
    Row("lstm.order", n, "rows", "snake"),
    Row("lstm.order_args", n, "{size:1}", "{size:2}", ("lstm.order=windows",)),
    Row("lstm.combine", n, "stack", "sum", SCALED),
    Row("lstm.cell", n, "lstm", "gru"),
    Row("lstm.hidden_size", n, "4", "5"),
    Row("lstm.num_layers", n, "1", "2"),
    Row("lstm.bidirectional", n, "true", "false"),
    Row("lstm.residual", n, "true", "false"),
    Row("lstm.stride", n, "auto", "null", SCALED),
    Row("lstm.chunk", n, "null", "4"),
    Row("loss", t, "cross_entropy", "focal"),
    Row("aux", t, "none", "deep"),
    Row("optimizer.name", t, "SGD", "Adam"),
    Row("optimizer.lr", t, "0.1", "0.2"),
    Row("optimizer.backbone_lr_factor", t, "1", "0.1"),
    Row("optimizer.layer_decay", t, "1", "0.5"),
    Row("optimizer.weight_decay", t, "0", "0.1"),
    Row("optimizer.args", t, "{momentum:0.9}", "{momentum:0.8}", ("optimizer=sgd",)),
    Row("scheduler", t, "polynomial", "cosine"),
    Row("trainer.channels_last", t, "true", "false"),
    Row("trainer.compile", t, "false", "true"),
    Row("trainer.max_epochs", observed.trainer, "1", "2"),
    Row("trainer.accelerator", observed.trainer, "cpu", "tpu"),
    Row("trainer.devices", observed.trainer, "1", "2", ("trainer.strategy=ddp",)),
    Row("trainer.num_nodes", observed.trainer, "1", "2", ("trainer.strategy=ddp",)),
    Row("trainer.strategy", observed.trainer, "auto", "ddp"),
    Row("trainer.precision", observed.trainer, "32", "bf16"),
    Row("trainer.deterministic", observed.trainer, "false", "true"),
    Row("trainer.accumulate_grad_batches", observed.trainer, "1", "2"),
    Row("trainer.gradient_clip_val", observed.trainer, "null", "1"),
    Row("trainer.fast_dev_run", observed.trainer, "false", "true"),
    Row("trainer.args", observed.trainer, "{limit_val_batches:1}", "{limit_val_batches:2}"),
    Row("callbacks", observed.watchers, "default", "ema"),
    Row("logger", observed.watchers, "tensorboard", "none"),
]


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


# Of a data set's group, for the commands that have no training: key -> first value, second, the words of both.
WORLD = ("data=folder", "data.root={folder}/a", "data.colours=null", "data.cache={folder}/cache", "data.size=[32,48]",
         f"data.classes=[{','.join(CLASSES)}]")  # fmt: skip
HELD_OUT = (*WORLD, *FOLDS, "split=val")  # of which `split` is evaluate's
DATA = {
    "data.name": ("x", "y", (*WORLD, "data.root={folder}")),
    "data.root": ("{folder}/a", "{folder}/b", WORLD),
    "data.reader": ("{image:'{split}/images/{name}.png'}", "{image:'{split}/masks/{name}.png'}", WORLD),
    "data.splits": ("{test:null}", "{test:few.txt}", WORLD),
    "data.classes": (f"[{','.join(CLASSES)}]", f"[{','.join(reversed(CLASSES))}]", WORLD),
    "data.colours": ("null", f"[{','.join(f'[{label},9,9]' for label in range(9))}]", WORLD),
    "data.ignore_index": ("255", "200", WORLD),
    "data.channels": ("3", "4", WORLD),
    "data.white": ("null", "4095", WORLD),
    "data.shown": ("null", "[2,1,0]", ()),
    "data.group": ("null", "'(v.)_'", HELD_OUT),
    "data.folds": ("null", "3", (*WORLD, "split=val")),
    "data.fold": ("0", "1", HELD_OUT),
    "data.fold_seed": ("0", "5", (*WORLD, "data.folds=3", "split=val")),
    "data.limit": ("null", "1", WORLD),
    "data.download": ("false", "true", WORLD),
    "data.source": ("{note:here}", "{note:there}", (*WORLD, "data.download=true")),
    "data.size": ("[32,48]", "[64,96]", ()),
    "data.check": ("true", "false", WORLD),
    "data.cache": ("{folder}/cache", "off", WORLD),
    "data.cache_gib": ("8", "0", WORLD),
    "data.eval_batch_size": ("1", "2", WORLD),
    "data.num_workers": ("0", "1", WORLD),
}
LOOKED: dict[str, Callable[[DictConfig, list[str], Path], Any]] = {
    "evaluate": observed.evaluated, "check_data": observed.surveyed,
}  # fmt: skip
# What a repetition repeats, and a benchmark measures, is a training: what it is told is held against what it hands on.
TRAINED = {row.key for row in ROWS}
SEEN = {
    "evaluate": set(DATA), "check_data": set(DATA), "train": TRAINED, "check_repeat": TRAINED, "benchmark": TRAINED,
}  # fmt: skip  # by command, the keys that the tests below look at, unless they are of no use to it


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


MEASURED = [row for row in ROWS if row.observe is s and not is_below(row.key, UNUSED["benchmark"])]


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
    write_recipe(told, tmp_path)
    recipe: Any = OmegaConf.to_container(OmegaConf.load(tmp_path / f"{RECIPE}.yaml"))
    assert recipe["callbacks"].pop("recorder")
    known: Any = OmegaConf.to_container(told)
    assert {key: recipe[key] for key in schema_keys_of_train()} == {key: known[key] for key in schema_keys_of_train()}


def schema_keys_of_train() -> set[str]:
    """The groups of a training's schema, and its keys outside of them."""
    return {key.partition(".")[0] for key in schema_keys("train")}


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
