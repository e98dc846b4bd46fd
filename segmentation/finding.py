"""`find=lr` and `find=batch_size`: suggestions instead of a training."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from matplotlib.figure import Figure
from pytorch_lightning.tuner.tuning import Tuner

from segmentation.analysis import plots
from segmentation.callbacks import ProgressBar
from segmentation.data.module import DataModule
from segmentation.errors import UserError, nearest
from segmentation.freezing import Freeze, FreezeBatchNorm
from segmentation.mixing import CutMix
from segmentation.targets import build
from segmentation.task import Task
from segmentation.train import build_task
from segmentation.trainer import build_trainer

STEPS = 100  # of the search for a learning rate
LEAST, MOST = 1e-7, 1.0  # learning rates tried
SHARE = 0.1  # of the latest loss in the running mean
STEADY = 10  # first steps, of rates too small to change anything
DIVERGED = 4  # times the losses of the first steps: where the search ends
CHANGING = (Freeze, FreezeBatchNorm, CutMix, ProgressBar)
Settings = Mapping[str, Any]


def find(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Suggest what `find` names, and say how to use it.

    Args:
        settings: the whole configuration, as plain containers.
        folder: the run's.

    Returns:
        The suggestion by its key.
    """
    wanted = settings["find"]
    if wanted not in FINDERS:
        raise UserError(f"find={wanted}: no such choice; {nearest(wanted, FINDERS)}")
    if str(settings["trainer"]["devices"]) != "1" or settings["trainer"]["num_nodes"] != 1:
        raise UserError(f"find={wanted}: asks one device; leave trainer.devices at 1")
    pl.seed_everything(settings["seed"], workers=True, verbose=False)
    data = DataModule(settings["data"], settings["augment"], settings["seed"])
    data.prepare("train", "val")
    found = FINDERS[wanted](settings, build_task(settings, data), data, folder)
    for key, value in found.items():
        print(f"{key}={value}")
    return found


def changing(settings: Settings) -> list[pl.Callback]:
    """The callbacks of the training that change what it does, and its progress bar; the others keep what it leaves."""
    found = build(settings["callbacks"], "callbacks").values()
    return [callback for callback in found if isinstance(callback, CHANGING)]


def search_trainer(config: Mapping[str, Any], folder: Path, *callbacks: pl.Callback) -> pl.Trainer:
    """A trainer of as many steps as a search takes, however many batches there are, that validates nothing."""
    limits = {"max_steps": STEPS, "limit_val_batches": 0}
    steps = {"max_epochs": STEPS + 1, "args": {**config["args"], **limits}}
    return build_trainer({**config, **steps}, folder, callbacks=callbacks)


class RateSearch(pl.Callback):
    """Lets the learning rate grow from step to step, each group keeping its share, and notes the loss of each step.

    Lightning's own finder gives all groups one rate, and the mean it judges by starts at half the loss.

    Args:
        rates: one for each step.
        base: `optimizer.lr`, of which the groups' own rates are shares.
    """

    def __init__(self, rates: Sequence[float], base: float) -> None:
        self.rates, self.base = rates, base
        self.shares: list[float] = []
        self.losses: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.shares = [group.get("initial_lr", group["lr"]) / self.base for group in trainer.optimizers[0].param_groups]

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        for group, share in zip(trainer.optimizers[0].param_groups, self.shares, strict=True):
            group["lr"] = share * self.rates[len(self.losses)]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))
        if len(self.losses) == len(self.rates) or not self.losses[-1] < DIVERGED * max(self.losses[:STEADY]):
            trainer.should_stop = True


def find_lr(settings: Settings, task: Task, data: DataModule, folder: Path) -> dict[str, Any]:
    """The rate at which the loss falls fastest while the rate grows from step to step (Smith, 2017)."""
    rates = np.geomspace(LEAST, MOST, STEPS).tolist()
    search = RateSearch(rates, settings["optimizer"]["lr"])
    search_trainer(settings["trainer"], folder, *changing(settings), search).fit(task, data)
    found = suggest(rates, search.losses)
    plots.save(draw(rates, search.losses, found), folder / "plots" / "lr_finder.png")
    return {"optimizer.lr": float(f"{found:.2g}")}


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rate at which the running mean of the losses falls fastest, before it is at its lowest."""
    mean = np.array(running_mean(losses))
    lowest = int(np.nanargmin(mean)) if np.isfinite(mean).any() else 0
    if lowest < STEADY:
        raise UserError("find=lr: the loss did not fall at any rate; see data and loss, or train from better weights")
    slopes = np.gradient(mean[STEADY // 2 : lowest + 1])
    return rates[STEADY // 2 + int(slopes.argmin())]


def running_mean(losses: Sequence[float]) -> list[float]:
    """Means over the losses so far, the later ones counting more."""
    total = weight = 0.0
    means = []
    for loss in losses:
        total, weight = (1 - SHARE) * total + SHARE * loss, (1 - SHARE) * weight + SHARE
        means.append(total / weight)
    return means


def draw(rates: Sequence[float], losses: Sequence[float], suggestion: float) -> Figure:
    """The loss, and its running mean, over the rates tried."""
    rates, smooth = rates[: len(losses)], running_mean(losses)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    plots.tidy(axes)
    axes.plot(rates, losses, color="#b8c4d6", linewidth=1, label="loss of a step")
    axes.plot(rates, smooth, color="#1f5fa8", label="running mean")
    axes.axvline(suggestion, color="#c0392b", linestyle="--", label=f"falls fastest at {suggestion:.2g}")
    axes.set_xscale("log")
    finite = np.array(smooth)[np.isfinite(smooth)]
    axes.set_ylim(min(0.0, float(finite.min())), 1.3 * float(np.percentile(finite, 90)))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.legend(frameon=False, fontsize="small")
    return figure


def find_batch_size(settings: Settings, task: Task, data: DataModule, folder: Path) -> dict[str, Any]:
    """The largest power of two that fits into the device's memory, at most the number of training images."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:  # the tuner leaves a checkpoint where it is stopped
        trainer = search_trainer(settings["trainer"], Path(scratch), *changing(settings))
        if trainer.strategy.root_device.type == "cpu":
            raise UserError("find=batch_size: asks how much a GPU's memory holds, and this training is on a CPU")
        return {"data.batch_size": largest_batch(task, data, trainer)}


def largest_batch(task: Task, data: DataModule, trainer: pl.Trainer) -> int:
    """The largest power of two with which a few steps run."""
    images = len(data.reader("train"))
    trials = max(1, images.bit_length() - 1)  # from 2 on, until it has doubled to all of them
    found = Tuner(trainer).scale_batch_size(task, datamodule=data, mode="power", max_trials=trials)
    if not found:
        raise UserError("find=batch_size: not even two images fit into the memory; set a smaller data.size")
    return min(found, images)


Finder = Callable[[Settings, Task, DataModule, Path], dict[str, Any]]
FINDERS: dict[str, Finder] = {"lr": find_lr, "batch_size": find_batch_size}
