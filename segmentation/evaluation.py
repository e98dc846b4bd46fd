"""A network's evaluation from one integer confusion matrix: the LightningModule that `Task` trains on top of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from segmentation.analysis.metrics import scores
from segmentation.models.network import Network

Batch = Mapping[str, Tensor]  # image uint8 [B, C, H, W], mask int64 [B, H', W'], index int64 [B]
SCALARS = ("pixel_accuracy", "mean_accuracy", "mean_iou", "mean_dice")


def most_likely(logits: Tensor) -> Tensor:
    """Logits [B, C, H, W] to class indices [B, H, W], the first where several are equal."""
    return logits.max(1).indices  # argmax takes 1.5 to 20 times as long on a CPU, by the layout


class Evaluation(pl.LightningModule):
    """A network judged at the masks' own resolution, by one confusion matrix over the whole split and all processes.

    Args:
        network: images in 0...1 to class logits.
        classes: their names.
        ignore_index: label of void pixels.
        channels_last: lay images out as the convolutions of CPUs and tensor cores want them.
        look: calls the network on images and a size, through windows for instance; by default it is called as it is.
    """

    def __init__(
        self,
        network: Network,
        *,
        classes: Sequence[str],
        ignore_index: int,
        channels_last: bool,
        look: Callable[[Tensor, tuple[int, int]], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)
        self.look = look
        self.classes = list(classes)
        self.ignore_index = ignore_index
        # Void is counted as one more class and cut off: leaving its pixels out would copy all others for every image.
        # Its own check of every batch sorts all pixels; the reader has let no label through that is not a class.
        self.confusion = MulticlassConfusionMatrix(len(self.classes) + 1, validate_args=False)
        self.results: dict[str, dict[str, Any]] = {}  # of the last epoch, by stage

    def forward(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Images uint8 [B, C, H, W] to float32 logits [B, classes, *size]."""
        image = image.to(memory_format=self.memory_format, dtype=torch.float32) / 255
        logits: Tensor = self.look(image, size) if self.look else self.network(image, size=size)
        return logits.float()

    def evaluate(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits [B, classes, H', W'] and the predicted classes [B, H', W'], counted in the confusion matrix."""
        mask = batch["mask"]
        logits = self(batch["image"], mask.shape[-2:])
        prediction = most_likely(logits)
        self.confusion.update(prediction, torch.where(mask == self.ignore_index, len(self.classes), mask))
        return logits, prediction

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Predicted classes [B, H', W'], for the callbacks."""
        return self.evaluate(batch)[1]

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Predicted classes [B, H', W'], for the callbacks."""
        return self.evaluate(batch)[1]

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def _report(self, stage: str) -> None:
        counted = self.confusion.compute()[: len(self.classes), : len(self.classes)]
        confusion: npt.NDArray[np.int64] = counted.cpu().numpy()
        self.confusion.reset()
        self.results[stage] = scores(confusion, self.classes)
        values = {f"{stage}/{name}": self.results[stage][name] for name in SCALARS}
        # A split that is void throughout has no score: None there, and nothing to log.
        for name, value in values.items():
            if value is not None:
                self.log(name, value, prog_bar=name == "val/mean_iou", sync_dist=True)
