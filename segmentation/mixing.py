"""Training images mixed with each other."""

from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
from torch import Tensor

from segmentation.errors import UserError


class Box(NamedTuple):
    """A rectangle of an image."""

    top: int
    left: int
    bottom: int
    right: int


class CutMix(pl.Callback):
    """In a rectangle an image becomes another one of its batch, and its labels that one's (CutMix: Yun et al., 2019;
    with labels for each pixel: French et al., 2020).

    Which images, where and how much depends on the seed, the epoch and the batch's number. Each process mixes its own
    images, so that two processes no longer train to the weights of one.

    Args:
        seed: of the run.
        probability: that an image gets a rectangle.
        alpha: of the Beta distribution (alpha, alpha) of the rectangle's share of the image; 1: any share alike.
    """

    def __init__(self, seed: int, probability: float = 0.5, alpha: float = 1.0) -> None:
        if not 0 <= probability <= 1:
            raise UserError(f"callbacks: cutmix: probability={probability}: give 0 to 1")
        if alpha <= 0:
            raise UserError(f"callbacks: cutmix: alpha={alpha}: give a number above 0")
        self.seed, self.probability, self.alpha = seed, probability, alpha

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Mix the batch in its place: image [B, C, H, W] and mask [B, H, W]."""
        if len(batch["mask"]) < 2:
            raise UserError("callbacks: cutmix mixes the images of a batch, and here it has one; raise data.batch_size")
        rng = np.random.default_rng((self.seed, trainer.current_epoch, batch_idx, trainer.global_rank))
        count, height, width = batch["mask"].shape
        boxes = [self.draw(height, width, rng) for _ in range(count)]
        for key in ("image", "mask"):
            paste(batch[key], boxes)

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Box | None:
        """A rectangle of the image's own proportions somewhere in it, or none."""
        side = float(np.sqrt(rng.beta(self.alpha, self.alpha)))
        tall, wide = round(side * height), round(side * width)
        top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
        return Box(top, left, top + tall, left + wide) if rng.random() < self.probability else None


def paste(batch: Tensor, boxes: list[Box | None]) -> None:
    """Put into each item's rectangle of [B, ..., H, W] what its predecessor has there, the last for the first.

    A batch is in random order, so any neighbour is a random one. Places are known to the host, which never waits.
    """
    others = batch.roll(1, 0)
    for item, other, box in zip(batch, others, boxes, strict=True):
        if box is not None:
            item[..., box.top : box.bottom, box.left : box.right] = other[
                ..., box.top : box.bottom, box.left : box.right
            ]
