"""A configuration is code: every YAML composes into `train` and builds what it describes."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from segmentation.cli import checked
from segmentation.config import CONF
from segmentation.data.module import DataModule
from segmentation.errors import UserError
from segmentation.models.network import build_network
from segmentation.targets import check_targets
from segmentation.train import build_task, model_settings
from segmentation.trainer import build_trainer
from tests.conftest import Compose
from tests.settings import plain

CHOICES = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml"))
# What a choice leaves to its user.
NEEDS = {
    "folder": ("data.classes=[no,yes]", "data.colours=[[0,0,0],[255,255,255]]"),
    "coco": ("data.classes=[background,dog]",),
}
HEAVY = {"efficientnet_b4", "efficientnetv2_s", "resnet50"}


def choices(group: str) -> list[str]:
    return [choice for name, choice in CHOICES if name == group]


def test_every_group_is_built_below() -> None:
    built = {"backbone", "decoder", "lstm", "loss", "optimizer", "scheduler", "data", "augment", "trainer"}
    assert {group for group, _ in CHOICES} == built | {
        "aux",
        "benchmark",
        "callbacks",
        "logger",
        "experiment",
        "launcher",
        "match",
        "sweeper",
    }


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_composes_and_names_what_exists(group: str, choice: str, compose: Compose) -> None:
    command = "benchmark" if group == "benchmark" else "train"
    settings = plain(compose(f"{group}={choice}", *NEEDS.get(choice, ()), name=command))
    check_targets(settings)
    assert len((CONF / group / f"{choice}.yaml").read_text().splitlines()) <= 30


@pytest.mark.parametrize(("words", "said"), [
    (["+trainer.args.profiler=1"], "trainer.args.profiler=1: give Profiler or null or str"),
    (["+trainer.args.log_every_n_steps=[1]"], "trainer.args.log_every_n_steps=[1]: give int or null"),
    (["+trainer.args.max_tim=1"], "trainer.args.max_tim: pytorch_lightning.Trainer takes no such argument; did you"),
    (["+trainer.args.overfit_batches=3"], "trainer.args.overfit_batches=3: give 0, and few images by data.limit"),
    (["+trainer.args.profiler={_target_:pytorch_lightning.profilers.SimpleProfiler}"], "trainer.args.profiler="),
    (["+backbone.args.drop_path_rate=2"], "backbone.args.drop_path_rate=2: give a number from 0 to 1"),
    (["scheduler.power=-2"], "scheduler.power=-2: give a number from 0"),
    (["callbacks.progress.refresh_rate=a"], "callbacks.progress.refresh_rate=a: give a whole number from 0"),
    (["callbacks.best.filename=7"], "callbacks.best.filename=7: give null or str"),
    (["+callbacks.last.train_time_interval=5"], "callbacks.last.train_time_interval=5: give null or timedelta"),
    (["+callbacks.last.save_last=links"], "callbacks.last.save_last=links: give Literal['link'] or bool or null"),
    (["+logger.tensorboard.log_graph=2"], "logger.tensorboard.log_graph=2: give bool"),
    (["loss.class_weights=0.5"], "loss.class_weights=0.5: give "),
    (["loss.ignore_index=2"], "loss.ignore_index=2: data.ignore_index is 255; leave this out, or change that"),
    (["loss=combined", "loss.terms.dice.ignore_index=2"], "loss.terms.dice.ignore_index=2: data.ignore_index is 255"),
])  # fmt: skip
def test_a_value_that_a_part_cannot_take_is_said(words: list[str], said: str, compose: Compose) -> None:
    with pytest.raises(UserError) as caught:
        check_targets(plain(checked(compose(*words), "train")))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("words", [
    ["+trainer.args.max_time={hours:1}"], ["+trainer.args.limit_val_batches=1"], ["loss.class_weights=[1,2]"],
    ["+callbacks.last.train_time_interval={_target_:datetime.timedelta,hours:1}"],
])  # fmt: skip
def test_a_value_that_a_part_can_take_is_not(words: list[str], compose: Compose) -> None:
    check_targets(plain(checked(compose(*words), "train")))


@pytest.mark.parametrize("choice", choices("backbone"))
def test_backbone_builds(choice: str, compose: Compose) -> None:
    settings = plain(compose(f"backbone={choice}", "lstm.hidden_size=8"))
    network = build_network(model_settings(settings), 5)
    if choice not in HEAVY:
        assert network.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 5, 64, 64)


@pytest.mark.parametrize(("group", "choice"), [(g, c) for g in ("decoder", "lstm") for c in choices(g)])
def test_part_builds_and_runs(group: str, choice: str, compose: Compose) -> None:
    settings = plain(compose(f"{group}={choice}"))
    network = build_network(model_settings(settings), 5).eval()
    assert network(torch.rand(1, 3, 64, 96)).shape == (1, 5, 64, 96)


@pytest.mark.parametrize("choice", choices("lstm"))
def test_an_order_is_matched_only_where_there_is_none(choice: str, compose: Compose) -> None:
    """Else `experiment=shallow lstm=zigzag` would be ReNet by another name, and its controls those of one scan."""
    file: Any = OmegaConf.load(CONF / "lstm" / f"{choice}.yaml")
    own = file.get("order")
    for words in (["match=renet"], ["experiment=shallow"]):
        matched = compose(*words, f"lstm={choice}").lstm.order
        assert matched == (own or ["rows", "columns"])
    assert compose(f"lstm={choice}").lstm.order == (own or "zigzag")


@pytest.mark.parametrize("choice", choices("experiment"))
def test_experiments_leave_the_order_to_the_choice_and_repeat(choice: str, compose: Compose) -> None:
    file: Any = OmegaConf.load(CONF / "experiment" / f"{choice}.yaml")
    assert "order" not in file.get("lstm", {})
    assert compose(f"experiment={choice}", name="check_repeat").trainer.max_epochs == 2


@pytest.mark.parametrize("choice", choices("loss"))
def test_loss_is_a_scalar_with_a_gradient(choice: str, compose: Compose) -> None:
    loss = instantiate(plain(compose(f"loss={choice}"))["loss"])
    logits = torch.randn(2, 5, 6, 7, requires_grad=True)
    value = loss(logits, torch.randint(0, 5, (2, 6, 7)))
    value.backward()
    assert value.ndim == 0
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("group", "choice"),
    [(g, c) for g in ("optimizer", "scheduler", "callbacks", "logger", "trainer") for c in choices(g)],
)
def test_training_part_builds(group: str, choice: str, compose: Compose, tmp_path: Path) -> None:
    settings = plain(compose(f"{group}={choice}", "trainer.accelerator=cpu", "lstm=none"))
    task = build_task(settings, DataModule(settings["data"], settings["augment"], 0))
    optimizer = torch.optim.SGD(task.network.parameters(), lr=0.1)
    task.scheduler(optimizer, 10)
    callbacks, loggers = instantiate(settings["callbacks"]).values(), instantiate(settings["logger"]).values()
    build_trainer(settings["trainer"], tmp_path, callbacks=callbacks, loggers=loggers)


@pytest.mark.parametrize(("group", "choice"), [(g, c) for g in ("data", "augment") for c in choices(g)])
def test_data_builds(group: str, choice: str, compose: Compose) -> None:
    settings = plain(compose(f"{group}={choice}", *NEEDS.get(choice, ())))
    data = DataModule(settings["data"], settings["augment"], 0)
    assert len(data.classes) == len(data.colours)


@pytest.mark.parametrize(("group", "choice"), [(g, c) for g in ("launcher", "sweeper") for c in choices(g)])
def test_launcher_and_sweeper_are_those_named(group: str, choice: str, compose: Compose) -> None:
    module, _, name = compose(f"{group}={choice}", hydra=True).hydra[group]._target_.rpartition(".")
    assert hasattr(importlib.import_module(module), name)
    assert name == {
        "basic": "BasicLauncher", "joblib": "JoblibLauncher", "submitit": "SlurmLauncher", "ray": "RayLauncher",
        "grid": "SegmentationSweeper", "optuna": "OptunaSweeper",
    }[choice]  # fmt: skip


@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_command_composes(name: str, compose: Compose) -> None:
    assert compose("model=x", name=name).model == "x"
