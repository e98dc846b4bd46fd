"""A network's training: the LightningModule on top of its evaluation."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import SumMetric

from segmentation.errors import UserError
from segmentation.evaluation import Batch, Evaluation, most_likely
from segmentation.finite import not_finite
from segmentation.means import EpochMeans
from segmentation.models.auxiliary import AuxiliaryHeads
from segmentation.models.network import Network
from segmentation.optim import build_optimizer
from segmentation.resuming import inside_epoch, mend, summed_gradients


class Task(Evaluation):
    """Training: a loss over the pixels, an optimizer with its own rate for the backbone, a schedule over the steps.

    Args:
        network: images in 0...1 to class logits.
        loss: logits [B, C, H, W] and labels [B, H, W] to a scalar.
        optimizer: name, lr, backbone_lr_factor, weight_decay, args, as in `OptimizerConfig`.
        scheduler: `(optimizer, total_steps)` to a schedule stepped once an optimizer step.
        aux: heads on the network's backbone whose loss is added, or None.
        evaluation: further arguments of `Evaluation`.
    """

    def __init__(
        self,
        network: Network,
        loss: nn.Module,
        *,
        optimizer: Mapping[str, Any],
        scheduler: Callable[[Optimizer, int], LRScheduler],
        aux: AuxiliaryHeads | None = None,
        **evaluation: Any,
    ) -> None:
        super().__init__(network, **evaluation)
        self.loss = loss
        self.aux = aux
        # Metrics, since Lightning's own mean divides by one process's images where processes have unequally many; sums,
        # since torchmetrics' mean forgets its weights where it does not look for NaNs, which would make the host wait.
        self.validation_loss, self.validation_images = (SumMetric(nan_strategy="disable") for _ in range(2))
        self.means = EpochMeans()
        self.interrupted: dict[str, Any] = {}  # what a checkpoint knows of the epoch inside which it was written
        self.optimizer_config = optimizer
        self.scheduler = scheduler

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss, logits, total = self.training_loss(batch)
        labelled = batch["mask"] != self.ignore_index
        correct = (most_likely(logits.detach()) == batch["mask"]) & labelled
        pixels = labelled.sum()
        self.log("train/loss_step", loss, batch_size=len(labelled), sync_dist=True)
        # An epoch's means are over what has labels. How much that is stays on the device.
        size, own = len(labelled) * (total > 0), len(labelled) * (pixels > 0)
        self.means.update(loss.detach(), correct.sum() / pixels.clamp(min=1), size, own)
        return loss

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of a batch, its logits [B, classes, H, W], and the labelled pixels of all processes.

        Void throughout, it has the loss 0 and the gradient 0: the step that follows is that of momentum, weight decay
        and schedule alone. Batch norm, which sees images and no labels, takes it into its statistics as any other.
        """
        mask = batch["mask"]
        logits = self(batch["image"], mask.shape[-2:])
        loss: Tensor = self.loss(logits, mask)
        if self.aux is not None:
            loss = loss + self.aux(self.loss, mask)
        share, total = self.share((mask != self.ignore_index).sum())
        return loss * share, logits, total

    def on_train_epoch_start(self) -> None:
        self.means.reset()

    def log_means(self) -> None:
        """Log the means over the epoch: for the first callback that is called when it ends, since others read them."""
        self.log("train/loss", self.means.loss(), logger=False, sync_dist=True)
        self.log("train/loss_epoch", self.means.loss(), sync_dist=True)
        self.log("train/pixel_accuracy", self.means.accuracy(), sync_dist=True)

    def share(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What this process's labelled pixels weigh (processes are averaged, as if equal), and how many all have."""
        total = pixels.clone()
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(total)
        return pixels * self.trainer.world_size / total.clamp(min=1), total

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Predicted classes [B, H', W'], for the callbacks."""
        logits, prediction = self.evaluate(batch)
        counted = (batch["mask"] != self.ignore_index).flatten(1).any(1).sum()  # images with a label
        self.validation_loss.update(self.loss(logits, batch["mask"]) * counted)
        self.validation_images.update(counted)
        return prediction

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        loss = self.validation_loss.compute() / self.validation_images.compute().clamp(min=1)
        self.log("val/loss", loss, sync_dist=True)
        self.validation_loss.reset()
        self.validation_images.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        broken = not_finite(checkpoint["state_dict"])
        if broken is not None:  # averaged weights included, which no other look sees
            raise UserError(
                f"training: {broken} is not finite after {checkpoint['global_step']} steps, so no checkpoint was "
                "written; earlier ones are as they were. Lower optimizer.lr, or set trainer.gradient_clip_val=1"
            )
        checkpoint["total_steps"] = int(self.trainer.estimated_stepping_batches)
        checkpoint["should_stop"] = self.trainer.should_stop
        if "optimizer_states" in checkpoint and inside_epoch(checkpoint["loops"]["fit_loop"]["epoch_progress"]):
            checkpoint["interrupted"] = {"gradients": summed_gradients(self, self.trainer), "means": self.means.save()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        steps = int(self.trainer.estimated_stepping_batches)
        if (planned := checkpoint.get("total_steps", steps)) != steps:
            raise UserError(
                f"ckpt: its training was planned for {planned} steps, this one for {steps}, and the learning rate's "
                "schedule would not fit; keep trainer.max_epochs and data as they were"
            )
        self.interrupted = checkpoint.get("interrupted", {})
        mend(checkpoint, self.trainer)

    def on_train_start(self) -> None:
        if self.interrupted:
            self.means.load(self.interrupted["means"], rank=self.global_rank)
            for name, gradient in self.interrupted["gradients"].items():
                self.get_parameter(name).grad = gradient.to(self.device)

    def configure_optimizers(self) -> Any:
        # A fused optimizer unscales float16's gradients inside its step, too late for Lightning to clip them before.
        scaled_and_clipped = self.trainer.precision == "16-mixed" and self.trainer.gradient_clip_val is not None
        optimizer = build_optimizer(self.network, self.optimizer_config, aux=self.aux, fused=not scaled_and_clipped)
        schedule = self.scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
