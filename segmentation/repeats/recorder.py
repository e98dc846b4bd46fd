"""What a training leaves to be compared with its repetition: the data and the loss of every step."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from segmentation.evaluation import Batch
from segmentation.runfiles import write_arrays

FILE = "steps.npz"


class Recorder(pl.Callback):
    """Writes `steps.npz`: `losses` [steps], and `data` [steps], a check sum of each batch; of the first process.

    Args:
        folder: where the file goes.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.losses: list[float] = []
        self.data: list[int] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"].item())
        arrays = [np.ascontiguousarray(batch[key].cpu().numpy()) for key in ("index", "image", "mask")]
        self.data.append(zlib.crc32(b"".join(array.tobytes() for array in arrays)))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            write_arrays(self.folder / FILE, {"losses": np.array(self.losses), "data": np.array(self.data)})
