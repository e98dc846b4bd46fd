"""A configuration is code: every YAML composes into `train` and builds what it describes."""

import importlib
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from segmentation.config import CONF
from segmentation.data.module import DataModule
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
        "sweeper",
    }


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_composes_and_names_what_exists(group: str, choice: str, compose: Compose) -> None:
    command = "benchmark" if group == "benchmark" else "train"
    settings = plain(compose(f"{group}={choice}", *NEEDS.get(choice, ()), name=command))
    check_targets(settings)
    assert len((CONF / group / f"{choice}.yaml").read_text().splitlines()) <= 30


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
