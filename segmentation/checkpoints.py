"""Which checkpoint a run goes on from, and weights out of one. Read as plain data: no pickle is executed."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import OmegaConf
from torch import nn

from segmentation.errors import UserError
from segmentation.reading import read_configuration, read_tensors
from segmentation.record import check_same
from segmentation.resuming import position
from segmentation.slurm import requeued
from segmentation.sweeps.ledger import is_finished

log = logging.getLogger(__name__)
LAST, BEST = Path("checkpoints", "last.ckpt"), Path("checkpoints", "best.ckpt")
PLACE = {"ckpt", "resume", "output", "train", "test"}  # keys that say where and what, not which training


def find_checkpoint(ckpt: str | None, folder: Path, *, train: bool, resume: bool = False) -> tuple[Path, Path | None]:
    """The run's folder and the checkpoint behind `ckpt=`; without one, a job of a resumed sweep has its own last.

    To train, `auto` is the folder's last checkpoint, or else the newest unfinished run of the same configuration beside
    it, which then goes on in its own folder; None where there is neither. A job that Slurm starts again is `auto`. To
    test only, it is the folder's best, and none at all is a mistake.
    """
    if ckpt not in (None, "auto"):
        if not Path(ckpt).is_file():
            raise UserError(f"ckpt={ckpt}: no such file; give a .ckpt of a run's checkpoints/, or ckpt=auto")
        return folder, Path(ckpt)
    if not train:
        if not (folder / BEST).is_file():
            raise UserError(f"train=false: {folder} holds nothing trained; give ckpt=PATH, or hydra.run.dir of a run")
        return folder, folder / BEST
    if ckpt is None and not requeued(folder):
        return folder, folder / LAST if resume and (folder / LAST).is_file() else None
    if (folder / LAST).is_file():
        return folder, folder / LAST
    unfinished = [run for run in _same_runs(folder) if not _finished(run)]
    newest = max(unfinished, key=lambda run: (run / LAST).stat().st_mtime, default=None)
    log.info(f"ckpt=auto: going on in {newest}" if newest else "ckpt=auto: no unfinished run, starting anew")
    return (newest, newest / LAST) if newest else (folder, None)


def _same_runs(folder: Path) -> Iterator[Path]:
    """Runs with a last checkpoint, in the neighbouring folders, whose configuration is this run's."""
    own = _identity(folder)
    if own is None:
        return
    for path in folder.parent.parent.glob(f"*/*/{LAST}"):
        run = path.parent.parent
        if run != folder and _identity(run) == own:
            yield run


def _finished(run: Path) -> bool:
    config = read_configuration(run / ".hydra" / "config.yaml", trust=True)
    return is_finished(run, test=bool(OmegaConf.select(config, "test", default=True)))


def _identity(run: Path) -> Any:
    path = run / ".hydra" / "config.yaml"
    if not path.is_file():
        return None
    try:
        plain = OmegaConf.to_container(read_configuration(path, trust=True), resolve=False)
    except UserError as error:  # torn by a kill, since Hydra writes it in place; the other runs are not to suffer
        log.warning(f"ckpt=auto: leaves {run} out: {error}")
        return None
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
    content = read_checkpoint(checkpoint)
    check_weights(task, content, checkpoint)
    task.load_state_dict(content["state_dict"])


def resume_point(
    task: nn.Module, settings: Mapping[str, Any], checkpoint: Path | None, folder: Path
) -> tuple[int, int]:
    """Epoch and batch that the training of a task goes on with, in this folder.

    Raises:
        UserError: unless it can go on from the checkpoint, with these settings.
    """
    if checkpoint is None:
        return 0, 0
    content = read_checkpoint(checkpoint)
    check_same(settings, content, checkpoint, folder)
    check_weights(task, content, checkpoint)
    if "optimizer_states" not in content:
        raise UserError(f"{checkpoint}: holds weights only; go on from last.ckpt, or test this one with train=false")
    with refusing(checkpoint):
        check_training(content)
        return position(content["loops"]["fit_loop"])


@contextmanager
def refusing(checkpoint: Path | None, begun: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """What goes wrong while a checkpoint is taken up is the checkpoint's fault, as a UserError.

    Args:
        checkpoint: None where there is none.
        begun: whether it has been taken up.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RuntimeError) as error:
        if checkpoint is None or begun():
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{checkpoint}: not as a training leaves it ({reason}); remove it to begin anew") from error


def check_training(content: Mapping[str, Any]) -> None:
    """Raise a ValueError unless these can be the parts of a training's state, which Lightning takes as they are."""
    for part in ("optimizer_states", "lr_schedulers"):
        if len(content[part]) != 1:
            raise ValueError(f"{part}: {len(content[part])} of them instead of one")
    if not all(isinstance(state, Mapping) for state in content.get("callbacks", {}).values()):
        raise ValueError("callbacks: no states")
    check_counts(content["loops"]["fit_loop"])


def check_counts(loop: Any) -> None:
    """Raise a ValueError unless these are counters, and groups of them."""
    if isinstance(loop, Mapping):
        for counts in loop.values():
            check_counts(counts)
    elif not isinstance(loop, int) or loop < 0:
        raise ValueError(f"loops: {loop!r} is no number of batches, steps or epochs")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint."""
    try:
        content: dict[str, Any] = read_tensors(path)
        content["state_dict"].keys()
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a checkpoint; remove it to begin anew: {reason}") from error
    return content


def check_weights(task: nn.Module, content: dict[str, Any], path: Path) -> None:
    """Raise a UserError unless the checkpoint's tensors are the task's."""
    ours = {name: tuple(value.shape) for name, value in task.state_dict().items()}
    its = {name: tuple(getattr(value, "shape", ("no tensor",))) for name, value in content["state_dict"].items()}
    differing = [name for name in ours.keys() | its.keys() if ours.get(name) != its.get(name)]
    if differing:
        raise UserError(f"{path}: of another network than this configuration describes: {min(differing)} for one")
