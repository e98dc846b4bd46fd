"""Going on inside an epoch: what Lightning forgets of it, or takes for done.

Lightning counts batches and optimizer steps, and so knows where to go on. It does not keep the random state, gradients
that are still being summed, nor the means that are logged at the epoch's end; a checkpoint after the last batch of an
epoch it takes for one after its validation, and a validation begun for one half done (its issues 19549 and 19617).
"""

import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from segmentation.whole import whole

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


def mend(checkpoint: dict[str, Any], trainer: pl.Trainer) -> None:
    """Change what a trainer has read from a checkpoint, before it makes use of it."""
    trainer.should_stop = checkpoint.get("should_stop", False)  # early stopping had its say before it was written
    mend_progress(checkpoint["loops"]["fit_loop"])
    mend_places(checkpoint.setdefault("callbacks", {}), trainer)


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


def mend_places(states: dict[Any, Any], trainer: pl.Trainer) -> None:
    """Have callbacks find the best checkpoints so far where a run goes on in another folder, or its own was moved:
    Lightning would forget their scores. And nothing else: it removes whatever these states name, a folder with all that
    is in it, so that a stranger's checkpoint may name no place but the run's own.

    Args:
        states: of the callbacks, changed in place; one that is not what the callback left is dropped.
        trainer: about to go on from its `ckpt_path`.
    """
    source = Path(trainer.ckpt_path or "").parent
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint):
            continue
        states.pop(type(callback), None)  # of Lightning's early versions
        state = moved(states.pop(callback.state_key, None), callback)
        if state is None:
            continue
        folder = Path(callback.dirpath or "")
        missing = [path for path in map(Path, state["best_k_models"]) if not path.is_file()]
        if not all((source / path.name).is_file() for path in missing):
            continue  # it begins anew to look for the best
        for path in missing if trainer.is_global_zero else ():
            with whole(folder / path.name) as partial:
                shutil.copyfile(source / path.name, partial)
        states[callback.state_key] = state


def moved(state: Any, callback: ModelCheckpoint) -> dict[str, Any] | None:
    """What a callback left, every file of it in the callback's own folder; None where it left no such thing."""
    if not isinstance(state, dict) or callback.dirpath is None or not isinstance(state.get("best_k_models"), dict):
        return None
    folder = Path(callback.dirpath)
    paths = {key: state.get(key) or "" for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
    scores = {key: state.get(key) for key in ("best_model_score", "current_score", "kth_value")}
    best = state["best_k_models"]
    if not all(file_name(path) for path in best) or not all(path == "" or file_name(path) for path in paths.values()):
        return None
    if not all(value is None or isinstance(value, Tensor | float) for value in (*scores.values(), *best.values())):
        return None
    return {
        "monitor": callback.monitor,
        "dirpath": callback.dirpath,
        "best_k_models": {str(folder / file_name(path)): score for path, score in best.items()},
        **{key: str(folder / file_name(path)) if path else "" for key, path in paths.items()},
        **scores,
    }


def file_name(path: Any) -> str:
    """The last part of a checkpoint's path, of Windows as well; empty where it is no checkpoint's."""
    found = re.fullmatch(r"(?:.*[/\\])?([^/\\:]+\.ckpt)", path, re.DOTALL) if isinstance(path, str) else None
    return found[1] if found else ""


def summed_gradients(module: nn.Module, trainer: pl.Trainer) -> dict[str, Tensor]:
    """The gradients that the next batches will be added to; none where the optimizer has just made its step."""
    batches = trainer.fit_loop.epoch_loop.batch_progress
    if batches.is_last_batch or batches.current.ready % trainer.accumulate_grad_batches == 0:
        return {}
    return {name: value.grad for name, value in module.named_parameters() if value.grad is not None}
