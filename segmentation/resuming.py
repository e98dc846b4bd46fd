"""Going on inside an epoch: what Lightning forgets of it, or takes for done.

Lightning counts batches and optimizer steps, and so knows where to go on. It does not keep the random state, gradients
that are still being summed, nor the means that are logged at the epoch's end; a checkpoint after the last batch of an
epoch it takes for one after its validation, and a validation begun for one half done (its issues 19549 and 19617).
"""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

LOOP, VALIDATION = "epoch_loop.batch_progress", "epoch_loop.val_loop.batch_progress"


def seed_step(*position: int) -> None:
    """Set all random states by where in the training this is, so that they do not depend on what came before.

    Args:
        position: seed, epoch, batch and rank.
    """
    number = int(np.random.SeedSequence(position).generate_state(1)[0])
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002  # for parts that know no other
    torch.manual_seed(number)


def inside_epoch(progress: Mapping[str, Any]) -> bool:
    """Whether Lightning's progress over the epochs is that of one that is not over."""
    return bool(progress["current"]["processed"] < progress["current"]["ready"])


def position(loop: Mapping[str, Any]) -> tuple[int, int]:
    """Epoch and batch that come next after a fit loop's state."""
    seen = loop[LOOP]["current"]["ready"] if inside_epoch(loop["epoch_progress"]) else 0
    return int(loop["epoch_progress"]["current"]["processed"]), int(seen)


def mend_progress(loop: dict[str, Any]) -> None:
    """Have a fit loop's state go on at the next batch, or where that was the last one, at the validation.

    Args:
        loop: the state, changed in place; of a checkpoint that was written between two batches.
    """
    if not inside_epoch(loop["epoch_progress"]):
        return
    batches, validation = loop[LOOP], loop[VALIDATION]
    if batches["is_last_batch"]:
        for counts in (batches["total"], batches["current"]):
            counts.update(dict.fromkeys(("started", "processed", "completed"), counts["ready"]))
    # The one state from which Lightning begins a validation: its first batch asked for, and none seen.
    validation["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    validation["current"] = dict.fromkeys(("ready", "started", "processed", "completed"), 0)
    validation["is_last_batch"] = False


def summed_gradients(module: nn.Module, trainer: pl.Trainer) -> dict[str, Tensor]:
    """The gradients that the next batches will be added to; none where the optimizer has just made its step."""
    batches = trainer.fit_loop.epoch_loop.batch_progress
    if batches.is_last_batch or batches.current.ready % trainer.accumulate_grad_batches == 0:
        return {}
    return {name: value.grad for name, value in module.named_parameters() if value.grad is not None}
