"""Keys that a command takes because it shares a group with the training, and has no use for: said, not passed over."""

import logging
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

log = logging.getLogger(__name__)
# Of a data set's group, what only a training asks for; mean and std are in the file of a model's weights.
TRAINING = ("data.balance", "data.mean", "data.std", "data.batch_size")
READING = ("data.check", "data.cache", "data.cache_gib", "data.eval_batch_size", "data.num_workers")
WHICH = ("train", "test", "ckpt", "resume", "monitor", "logger")  # of a run: what of it is done, and what is kept
UNUSED: dict[str, tuple[str, ...]] = {
    "check_data": (*TRAINING, *READING),
    "evaluate": TRAINING,
    "benchmark": (
        *WHICH, "seed", "find", "output", "trainer.max_epochs", "callbacks", "data.colours", "data.shown",
    ),
    "check_repeat": ("output",),
}  # fmt: skip  # by command; what lies below one of these is meant as well
FINDING = {
    "lr": (*WHICH, "scheduler", "trainer.max_epochs", "optimizer.lr"),
    "batch_size": (*WHICH, "scheduler", "trainer.max_epochs", "data.batch_size"),
}  # of a training, by what it is to `find`
USED = {"benchmark": ("callbacks.progress",)}  # by command: what is used all the same


def unused(command: str, overrides: Sequence[str], config: DictConfig | None = None) -> list[str]:
    """The keys among a command line's words that the command has no use for.

    Args:
        command: its name.
        overrides: the words.
        config: what is composed of them, where some are of use only beside others.
    """
    idle = UNUSED.get(command, ())
    if command == "train" and config is not None:
        idle = FINDING.get(str(config.find), ())
    if command == "check_data" and config is not None and "${data.size}" not in OmegaConf.to_yaml(config.data.reader):
        idle = (*idle, "data.size")  # the files' own sizes are looked at
    keys = [word.lstrip("+").partition("=")[0] for word in overrides]
    return [key for key in keys if is_below(key, idle) and not is_below(key, USED.get(command, ()))]


def is_below(key: str, keys: Sequence[str]) -> bool:
    """Whether a key is one of these, or in one of these groups."""
    return any(f"{key}.".startswith(f"{one}.") for one in keys)


def warn_of_unused(command: str, overrides: Sequence[str], config: DictConfig | None = None) -> None:
    """Say which they are."""
    for key in unused(command, overrides, config):
        finding = config is not None and command == "train"
        log.warning(f"{key}: has no effect {'while `find` is set' if finding else f'on {command}'}")
