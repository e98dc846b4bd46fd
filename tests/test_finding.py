"""Suggestions: a rate that trains, a batch that fits, and nothing left behind."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from segmentation.data.module import DataModule
from segmentation.errors import UserError
from segmentation.finding import LEAST, MOST, RateSearch, largest_batch, running_mean, search_trainer, suggest
from segmentation.task import Task
from segmentation.train import build_task, train
from tests import settings
from tests.conftest import Compose


def test_a_rate_is_suggested_drawn_and_nothing_else_left(
    tiny: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = train(tiny("find=lr", f"output={tmp_path / 'run'}"))
    rate = found["optimizer.lr"]
    assert LEAST < rate < MOST
    assert f"optimizer.lr={rate}" in capsys.readouterr().out.split()
    assert Image.open(tmp_path / "run" / "plots" / "lr_finder.png").size[0] > 500
    left = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert left - {"lr_finder.png"} <= {"lock", ".lock", "run.lock"}


def test_a_batch_size_is_for_gpus(tiny: Compose, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="find=batch_size: asks how much a GPU's memory holds"):
        train(tiny("find=batch_size", f"output={tmp_path / 'run'}"))


def test_what_cannot_be_found_is_named(tiny: Compose, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="find=rate: no such choice"):
        train(tiny("find=rate", f"output={tmp_path / 'run'}"))


def test_a_search_freezes_what_the_training_would(tiny: Compose, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to freeze"):
        train(tiny("find=lr", "callbacks=freeze", f"output={tmp_path / 'run'}"))


def test_a_search_asks_one_device(tiny: Compose, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="find=lr: asks one device"):
        train(tiny("find=lr", "trainer.devices=2", f"output={tmp_path / 'run'}"))


@pytest.mark.parametrize(("fits", "expected"), [(4, 4), (99, 8)])
def test_the_largest_batch_that_fits(
    fits: int, expected: int, tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a device whose memory holds so many images; there are eight."""
    values = settings.plain(tiny())
    data = DataModule(values["data"], values["augment"], 0)
    task = build_task(values, data)
    step = Task.training_step

    def small(self: Task, batch: Any, batch_idx: int) -> torch.Tensor:
        if len(batch["image"]) > fits:
            raise RuntimeError("CUDA out of memory.")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Task, "training_step", small)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    assert largest_batch(task, data, search_trainer(values["trainer"], tmp_path)) == expected
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())


def test_the_rate_of_the_steepest_fall_is_suggested() -> None:
    rates = [10.0 ** (step / 20) for step in range(80)]
    losses = [2.0] * 30 + [2 - 0.02 * step for step in range(20)] + [1.6 - 0.06 * step for step in range(20)]
    losses += [0.4 + step for step in range(10)]
    assert rates[50] < suggest(rates, losses) <= rates[71]
    for wrong in ([float("nan")] * 3, [1.0 + step for step in range(40)]):
        with pytest.raises(UserError, match="the loss did not fall at any rate"):
            suggest(rates, wrong)


def test_the_mean_starts_at_the_first_loss() -> None:
    assert running_mean([2.0, 2.0, 2.0]) == pytest.approx([2, 2, 2])


def test_groups_keep_their_shares_while_the_rate_grows(tiny: Compose, tmp_path: Path) -> None:
    values = settings.plain(tiny("optimizer.backbone_lr_factor=0.1"))
    data = DataModule(values["data"], values["augment"], 0)
    task = build_task(values, data)
    search = RateSearch([0.01, 0.1, 1.0], values["optimizer"]["lr"])
    seen: list[list[float]] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if len(seen) < 3:
                seen.append(rates_at_step.pop())

        def on_before_optimizer_step(self, trainer: pl.Trainer, *_: Any) -> None:
            rates_at_step.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    rates_at_step: list[list[float]] = []
    search_trainer(values["trainer"], tmp_path, search, Watch()).fit(task, data)
    assert [head for head, _ in seen] == pytest.approx([0.01, 0.1, 1.0])
    assert [backbone for _, backbone in seen] == pytest.approx([0.001, 0.01, 0.1])
    assert len(search.losses) == 3
