"""`callbacks=ema`: the mean of the weights over the training, newer ones counting more."""

import logging
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint

from segmentation.errors import UserError

log = logging.getLogger(__name__)
MEMORIES = 3  # 1 / (1 - decay) steps are one; after three the first weights are 5 % of the mean


class AveragedWeights(EMAWeightAveraging):
    """Lightning's, and safe to interrupt: weights change places for a validation, and are back before a checkpoint.

    Args:
        decay: of a step.
        averaging: further arguments of Lightning's.
    """

    def __init__(self, decay: float = 0.999, **averaging: Any) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"callbacks.ema.decay={decay:g}: give at least 0, and less than 1")
        super().__init__(decay=decay, **averaging)
        self.decay = decay
        self.every = averaging.get("update_every_n_steps") or 1
        self.first = averaging.get("update_starting_at_step") or 0
        self._swapped = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint):
                callback.save_weights_only = False  # those are written without asking callbacks: not of the means

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        means, wanted = (trainer.estimated_stepping_batches - self.first) / self.every, MEMORIES / (1 - self.decay)
        if means < wanted and trainer.is_global_zero:
            cure = f"decay={1 - MEMORIES / means:.6f}".rstrip("0") + " suits it" if means > MEMORIES else "leave it out"
            log.warning(
                f"callbacks.ema.decay={self.decay:g}: the mean forgets the first weights in some {wanted:.0f} steps, "
                f"and this training has {means:.0f}; {cure}"
            )

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
