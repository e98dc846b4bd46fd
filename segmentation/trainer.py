"""Lightning's Trainer as the project sets it up, the same for training and for evaluation."""

import logging
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import Logger

from segmentation.allocator import keep_freed_memory
from segmentation.casting import CastOnce, keep_casts
from segmentation.checkpoint_io import WholeCheckpoints
from segmentation.errors import UserError, nearest
from segmentation.ranges import MONITORS
from segmentation.sync import SyncedBatchNorm

# Said at every start, and nothing that a user could act on.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # devices found and not found, tips, epochs reached
warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 on torch 2.15: its own call, deprecated there
warnings.filterwarnings("ignore", message="The number of training batches")  # small data: fewer points in a curve
warnings.filterwarnings("ignore", message=".*does not have many workers")  # data.num_workers is the user's to choose
warnings.filterwarnings("ignore", message="Checkpoint directory .* exists")  # a run that goes on in its own folder
warnings.filterwarnings("ignore", message="(?s).*dataloader is not resumable")  # TrainBatches knows where to go on

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}  # Lightning's own words are understood too

# Keywords of Lightning's that the project gives it, and what says so.
OURS = {
    "callbacks": "add to the group callbacks",
    "logger": "choose by the group logger",
    "default_root_dir": "set hydra.run.dir",
    "plugins": "is the project's own: batch norms of several processes depend on it",
    "use_distributed_sampler": "is the project's own: no image may be counted twice",
}


NOTHING = ("limit_train_batches", "max_steps")  # keywords of which 0 leaves nothing to train on


@contextmanager
def lightnings_words(begun: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """What Lightning refuses of a Trainer and its callbacks, as a UserError.

    Args:
        begun: whether the training runs: what is raised then is a refusal only where Lightning calls it one.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise UserError(f"trainer, callbacks: Lightning refuses this: {' '.join(str(error).split())}") from error
    except (TypeError, ValueError, RuntimeError, ImportError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        if begun() or not any(package in frames[-1].filename for package in ("pytorch_lightning", "lightning_fabric")):
            raise
        raise UserError(f"trainer: Lightning refuses this: {' '.join(str(error).split())}") from error


def check_monitors(callbacks: Iterable[pl.Callback]) -> None:
    """Raise a UserError for a callback that watches what is never logged, which Lightning says after an epoch."""
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor not in MONITORS:
            raise UserError(
                f"callbacks: {type(callback).__name__} watches {monitor!r}, which is not logged; "
                f"{nearest(monitor, MONITORS)}"
            )


def computes_bf16(accelerator: str) -> bool:
    """Whether the device has bf16 arithmetic: where it only emulates it, bf16 is slower than float32."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")  # torch has no public question for this in all its supported versions
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def lightning_precision(precision: str, accelerator: str) -> str:
    """Lightning's word for `trainer.precision`; `auto` is bf16 where the device computes in it, else float32."""
    if precision == "auto":
        precision = "bf16" if computes_bf16(accelerator) else "32"
    words = PRECISIONS | {word: word for word in PRECISIONS.values()}
    if precision not in words:
        raise UserError(f"trainer.precision={precision}: no such choice; {nearest(precision, ['auto', *PRECISIONS])}")
    return words[precision]


def build_trainer(
    config: Mapping[str, Any], folder: Path, *, callbacks: Iterable[pl.Callback] = (), loggers: Iterable[Logger] = ()
) -> pl.Trainer:
    """A Trainer from the keys of `TrainerConfig`, with `folder` as its root.

    The data module shards by itself (evaluation must not repeat images to fill up a process), so Lightning's
    sampler is off.
    """
    callbacks = list(callbacks)
    for key in config["args"]:
        if key in OURS or key in config:
            raise UserError(f"trainer.args.{key}: {OURS.get(key, f'say trainer.{key}=...')}")
    settings: dict[str, Any] = {
        **{key: value for key, value in config.items() if key not in ("args", "channels_last", "compile")},
        "precision": lightning_precision(config["precision"], config["accelerator"]),
        "default_root_dir": folder,
        "callbacks": [CastOnce(), *callbacks],
        "inference_mode": False,  # CastOnce needs it
        "logger": list(loggers) or False,
        "use_distributed_sampler": False,
        "plugins": [SyncedBatchNorm(), WholeCheckpoints()],
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(callback, pl.callbacks.Checkpoint) for callback in callbacks),
        "log_every_n_steps": 10,
        **config["args"],
    }
    for key in NOTHING:
        if settings.get(key) == 0:
            raise UserError(f"trainer.args.{key}=0: nothing would be trained; train=false only tests")
    if settings.get("check_val_every_n_epoch") == 0:
        raise UserError("trainer.args.check_val_every_n_epoch=0: give at least 1; limit_val_batches=0 never validates")
    stoppers = [one for one in callbacks if isinstance(one, pl.callbacks.EarlyStopping)]
    if settings.get("limit_val_batches") == 0 and any(one.monitor.startswith("val/") for one in stoppers):
        raise UserError("trainer.args.limit_val_batches=0: EarlyStopping needs a validation; leave one of the two out")
    with lightnings_words():
        trainer = pl.Trainer(**settings)
    keep_casts(trainer)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    return trainer
