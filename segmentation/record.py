"""What a training was begun with, kept in its checkpoints.

One that goes on takes its optimizer, schedule and place in the data from the checkpoint: other settings would do
nothing, or half of what they say, and stand in the run's files as if it had been trained with them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from segmentation.cli import is_first_process
from segmentation.errors import UserError
from segmentation.whole import write_text

KEY = "record"  # in a checkpoint
FILES = ("config.yaml", "hydra.yaml", "overrides.yaml")  # that Hydra has written anew when the command begins
# Settings that take effect whenever a training goes on, or are no part of it. Changes in the number of steps are found
# by the schedule, see `Task.on_load_checkpoint`.
FREE = {"output", "ckpt", "resume", "train", "test", "find", "logger", "callbacks", "monitor", "trainer",
        "data.root", "data.download", "data.source", "data.check", "data.cache", "data.cache_gib", "data.num_workers",
        "data.eval_batch_size", "data.shown"}  # fmt: skip


class Record(pl.Callback):
    """Keeps in every checkpoint the settings that may not change, and Hydra's files.

    Args:
        settings: the whole configuration, in which a cell may still be chosen.
        folder: the run's.
    """

    def __init__(self, settings: Mapping[str, Any], folder: Path) -> None:
        self.settings = settings
        self.begun = False  # the training, after all states have been restored
        files = {name: folder / ".hydra" / name for name in FILES}
        self.files = {name: file.read_text() for name, file in files.items() if file.is_file()}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begun = True

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[KEY] = {"settings": dict(fixed(self.settings)), "files": self.files}


def fixed(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The settings that may not change, each with its value as JSON."""
    for key, value in settings.items():
        path = f"{prefix}{key}"
        if path in FREE:
            continue
        if isinstance(value, Mapping) and value:
            yield from fixed(value, f"{path}.")
        else:
            yield path, json.dumps(value)


def check_same(settings: Mapping[str, Any], content: Mapping[str, Any], checkpoint: Path, folder: Path) -> None:
    """Raise a UserError unless these settings are those that a checkpoint was trained with; the files of its run then
    say again what they said.

    Args:
        settings: the whole configuration.
        content: of the checkpoint; one without a record is of an earlier version, and may be anything.
        checkpoint: where it lies.
        folder: of the run that is to go on.
    """
    record = content.get(KEY)
    if not isinstance(record, Mapping) or not isinstance(record.get("settings"), Mapping):
        return
    ours, its = dict(fixed(settings)), record["settings"]
    differing = sorted(key for key in ours.keys() | its.keys() if ours.get(key) != its.get(key))
    if not differing:
        return
    if checkpoint.resolve().parent.parent == folder.resolve() and is_first_process():
        for name in FILES:
            if isinstance(text := record.get("files", {}).get(name), str):
                write_text(folder / ".hydra" / name, text)
    key, more = differing[0], f" (and {len(differing) - 1} more keys differ)" if len(differing) > 1 else ""
    raise UserError(
        f"{key}={ours.get(key, 'not there')}: {checkpoint} was trained with {its.get(key, 'no such key')}{more}; a "
        "training goes on as it began: leave it out, or train anew in another folder"
    )
