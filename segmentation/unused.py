"""Keys that a command takes because it shares a group with the training, and has no use for: said, not passed over."""

import logging
from collections.abc import Sequence

log = logging.getLogger(__name__)
# Of a data set's group, what only a training asks for; mean and std are in the file of a model's weights.
TRAINING = ("data.balance", "data.mean", "data.std", "data.batch_size")
READING = ("data.check", "data.cache", "data.cache_gib", "data.eval_batch_size", "data.num_workers")
UNUSED = {
    "check_data": (*TRAINING, *READING),
    "evaluate": TRAINING,
    "benchmark": ("seed", "train", "test", "find", "ckpt", "resume", "monitor", "output", "trainer.max_epochs"),
    "check_repeat": ("output",),
}  # by command


def unused(command: str, overrides: Sequence[str]) -> list[str]:
    """The keys among a command line's words that the command has no use for."""
    keys = [word.lstrip("+").partition("=")[0] for word in overrides]
    return [key for key in keys if key in UNUSED.get(command, ())]


def warn_of_unused(command: str, overrides: Sequence[str]) -> None:
    """Say which they are."""
    for key in unused(command, overrides):
        log.warning(f"{key}: has no effect on {command}")
