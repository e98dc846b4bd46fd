"""Which checkpoint a run goes on from, and weights out of one. Read as plain data: no pickle is executed."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from segmentation.errors import UserError

log = logging.getLogger(__name__)
LAST = Path("checkpoints", "last.ckpt")
PLACE = {"ckpt", "output", "train", "test"}  # keys that say where and what, not which training


def find_checkpoint(ckpt: str | None, folder: Path) -> Path | None:
    """The file behind `ckpt=`: None, a path, or for `auto` this run's last one or that of the newest unfinished run
    of the same configuration beside it; None where `auto` finds nothing to go on from.
    """
    if ckpt is None:
        return None
    if ckpt != "auto":
        if not Path(ckpt).is_file():
            raise UserError(f"ckpt={ckpt}: no such file; give a .ckpt of a run's checkpoints/, or ckpt=auto")
        return Path(ckpt)
    if (folder / LAST).is_file():
        return folder / LAST
    unfinished = [run / LAST for run in _same_runs(folder) if not (run / "model.safetensors").exists()]
    newest = max(unfinished, key=lambda path: path.stat().st_mtime, default=None)
    log.info(f"ckpt=auto: going on from {newest}" if newest else "ckpt=auto: no unfinished run, starting anew")
    return newest


def _same_runs(folder: Path) -> Iterator[Path]:
    """Runs with a last checkpoint, in the neighbouring folders, whose configuration is this run's."""
    own = _identity(folder)
    if own is None:
        return
    for path in folder.parent.parent.glob(f"*/*/{LAST}"):
        run = path.parent.parent
        if run != folder and _identity(run) == own:
            yield run


def _identity(run: Path) -> Any:
    path = run / ".hydra" / "config.yaml"
    if not path.is_file():
        return None
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return {key: value for key, value in plain.items() if key not in PLACE}


def best_weights(trainer: pl.Trainer) -> Path | None:
    """The checkpoint of the best epoch, or None where none was kept: then the last weights are the run's."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, pl.callbacks.ModelCheckpoint) and callback.monitor and callback.best_model_path:
            return Path(callback.best_model_path)
    return None


def load_weights(task: nn.Module, checkpoint: Path | None) -> None:
    """Load the weights of a checkpoint into the task it came from; None leaves them as they are."""
    if checkpoint is None:
        return
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        task.load_state_dict(state)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{checkpoint}: not a checkpoint of this configuration: {reason}") from error
