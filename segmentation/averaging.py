"""`callbacks=ema`: the mean of the weights over the training, newer ones counting more."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging


class AveragedWeights(EMAWeightAveraging):
    """Lightning's, and safe to interrupt: weights change places for a validation, and are back before a checkpoint.

    Args:
        decay: of a step.
        averaging: further arguments of Lightning's.
    """

    def __init__(self, decay: float = 0.999, **averaging: Any) -> None:
        super().__init__(decay=decay, **averaging)
        self._swapped = False

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_epoch_start(trainer, pl_module)
        self._swapped = True

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_epoch_end(trainer, pl_module)
        self._swapped = False

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._swapped:
            self.on_validation_epoch_end(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Of a training that was interrupted after its last epoch Lightning ends without `on_train_end`.
        self.on_train_end(trainer, pl_module)
