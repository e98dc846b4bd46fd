"""Stops a training whose numbers are no longer finite, before anything good is replaced."""

from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from segmentation.diagnosis import find_cause, find_cause_in_validation, report
from segmentation.errors import UserError
from segmentation.evaluation import Batch
from segmentation.finite import hold, not_finite
from segmentation.task import Task

LOOK = 10  # batches between two looks, where nothing is logged


class Step(NamedTuple):
    """What is kept of a batch until the next look."""

    number: int  # of the optimizer's step that the batch belongs to
    samples: Tensor  # their indices
    loss: Tensor
    gradient: Tensor  # its norm; 0 where the optimizer did not step

    def numbers(self) -> Tensor:
        return torch.stack([self.loss.float(), self.gradient.float()])


class FiniteNumbers(pl.Callback):
    """Ends the training with one line once a loss, a gradient or a weight is NaN or infinite.

    To look at a number the host must wait for the device, so it looks where it waits anyway: at every logged step, at
    the end of an epoch, and before a validation or a checkpoint. Until then the device itself leaves out every step
    from the bad one on: the weights are still those that the bad batch met, and running it again finds the layer.
    """

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._number = 0
        self._gradient: Tensor | None = None
        self._good: Tensor | None = None  # whether every gradient since the last look was finite

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self._number, self._gradient = trainer.global_step, None

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return  # float16's gradients overflow now and then; its scaler leaves those steps out by itself
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        # Infinite from about 1e19 on, where Adam's squares are as well. The largest value would take 20 times as long.
        self._gradient = get_total_norm(gradients)
        finite = self._gradient.isfinite()
        self._good = finite if self._good is None else self._good & finite
        hold(optimizer, gradients, self._good)

    def on_train_batch_end(  # type: ignore[override]  # Lightning cannot know what a batch is
        self, trainer: pl.Trainer, pl_module: Task, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        loss = outputs["loss"]
        gradient = torch.zeros_like(loss) if self._gradient is None else self._gradient
        self._steps.append(Step(self._number, batch["index"], loss, gradient))
        every = trainer.log_every_n_steps or LOOK  # type: ignore[attr-defined]  # Lightning sets it in a connector
        if trainer.is_last_batch or (batch_idx + 1) % every == 0:
            self.look(trainer, pl_module)
        if trainer.is_last_batch:
            check_weights(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.look(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.look(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = trainer.callback_metrics.get("val/loss", torch.zeros(()))
        assert isinstance(pl_module, Task)
        if not loss.isfinite():
            cause = find_cause_in_validation(trainer, pl_module)
            raise UserError(report(trainer, f"the loss of the validation is {loss:g}", [], cause, trainer.global_step))

    def look(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Whether all was finite since the last look.

        Raises:
            UserError: if not.
        """
        steps = self._steps
        if not steps:
            return
        finite = bool(torch.stack([step.numbers() for step in steps]).isfinite().all())
        if not trainer.strategy.reduce_boolean_decision(finite):  # of several processes all must stop
            assert isinstance(pl_module, Task)
            bad = next((step for step in steps if not step.numbers().isfinite().all()), steps[-1])
            together = torch.cat([step.samples for step in steps if step.number == bad.number])
            samples = together if bad.loss.isfinite() else bad.samples  # a gradient may be the sum of several batches'
            number = (
                f"the loss is {bad.loss:g}"
                if not bad.loss.isfinite()
                else f"the norm of the gradient is {bad.gradient:g}"
            )
            cause = find_cause(trainer, pl_module, samples)
            raise UserError(report(trainer, number, samples.tolist(), cause, bad.number))
        self._steps, self._good = [], None  # not before: whoever saves in spite of the error must not succeed


def check_weights(trainer: pl.Trainer, task: Task) -> None:
    """Raise a UserError unless all weights and statistics are finite."""
    broken = not_finite(task.state_dict())
    if not trainer.strategy.reduce_boolean_decision(broken is None):
        cause = f"{broken} is not finite"
        raise UserError(report(trainer, "the weights have gone wrong", [], cause, trainer.global_step - 1))
