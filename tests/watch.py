"""What a process holds, noted by a callback while it trains, and whether that grows."""

import gc
import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure

KINDS = (pl.Trainer, pl.LightningModule, pl.LightningDataModule, pl.Callback, Figure)


def files() -> int:
    """Open files: the fewest of five looks, for TensorBoard's writer has a file open while it writes only."""

    def look() -> int:
        time.sleep(0.02)
        return len(list(Path("/proc/self/fd").iterdir()))

    return min(look() for _ in range(5))


def holdings() -> dict[str, int]:
    """Bytes resident, open files, and threads."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {"resident": pages * os.sysconf("SC_PAGE_SIZE"), "files": files(), "threads": threading.active_count()}


def living() -> dict[str, int]:
    """How many objects live of the kinds that would be worth a leak, and the bytes of all tensors."""
    gc.collect()
    objects = gc.get_objects()
    counts = {kind.__name__: sum(issubclass(type(one), kind) for one in objects) for kind in KINDS}
    storages = [one.untyped_storage() for one in objects if type(one) in (torch.Tensor, torch.nn.Parameter)]
    return counts | {"tensors": sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())}


class Watch(pl.Callback):
    """A line of JSON for what the process holds, at the end of every validation and of every test.

    Args:
        file: the lines are added to it.
        count: the objects as well, which takes a collection of garbage.
    """

    def __init__(self, file: str, count: bool = False) -> None:
        self.file, self.count = Path(file), count

    def note(self, when: str, step: int) -> None:
        found = (living() if self.count else {}) | holdings()  # first what collects garbage, which may hold files
        with self.file.open("a") as file:
            file.write(json.dumps({"when": when, "step": step, **found}) + "\n")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.note("epoch", trainer.global_step)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.note("test", trainer.global_step)


def noted(file: Path, when: str) -> list[dict[str, Any]]:
    """The lines of a kind."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [row for row in rows if row["when"] == when]


def grown(rows: Sequence[dict[str, Any]], warm: int) -> dict[str, int]:
    """By how much everything but resident memory has grown since the first `warm` lines."""
    first, last = rows[warm], rows[-1]
    keys = first.keys() - {"when", "step", "resident"}
    return {key: last[key] - first[key] for key in keys if last[key] > first[key]}
