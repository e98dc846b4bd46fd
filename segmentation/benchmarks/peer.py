"""What a user would write instead: segmentation_models_pytorch in a plain Lightning loop, after its CamVid example.

float32 unless told otherwise, torch's own memory layout, every PNG decoded in every epoch, metrics from the counts that
each step returns. Network, loss, optimizer and augmentation are those of the run that it is compared with.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from segmentation.errors import UserError
from segmentation.models.backbones import normalisation, weights_keywords
from segmentation.optim import optimizer_class

Item = tuple[Tensor, Tensor]


class Files(Dataset[Item]):
    """Images and masks decoded anew each time, augmented without a seed of their own."""

    def __init__(self, paths: Sequence[tuple[Path, Path]], transforms: Sequence[Any], size: Sequence[int]) -> None:
        self.paths = list(paths)
        self.transform = A.Compose([*transforms, A.Resize(*size)], mask_interpolation=cv2.INTER_NEAREST)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Item:
        image = cv2.imread(str(self.paths[index][0]), cv2.IMREAD_COLOR_RGB)
        mask = cv2.imread(str(self.paths[index][1]), cv2.IMREAD_GRAYSCALE)
        changed = self.transform(image=image, mask=mask)
        return torch.from_numpy(changed["image"].transpose(2, 0, 1)), torch.from_numpy(changed["mask"].astype(np.int64))


class PeerTask(pl.LightningModule):
    """The network and its training.

    Args:
        settings: the whole configuration of the run that it is compared with.
        classes: how many.
        steps: of the training, for the schedule.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: Mapping[str, Any], classes: int, steps: int) -> None:
        super().__init__()
        backbone = settings["backbone"]
        if not settings["decoder"]["_target_"].startswith("segmentation_models_pytorch."):
            raise UserError("decoder: the benchmark's peer has those of segmentation_models_pytorch; try decoder=fpn")
        keywords = weights_keywords(backbone["name"], backbone["weights"])
        self.model = instantiate(
            settings["decoder"],
            encoder_name=f"tu-{backbone['name']}",
            encoder_weights=keywords.pop("pretrained", None),
            classes=classes,
            **keywords,
        )
        mean, std = normalisation(backbone["name"])
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.loss: nn.Module = instantiate(settings["loss"])
        self.settings, self.classes, self.steps = settings, classes, steps
        self.outputs: list[dict[str, Tensor]] = []

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Images uint8 [B, 3, H, W] to logits [B, classes, H, W], or at `size`."""
        logits: Tensor = self.model((image / 255 - self.mean) / self.std)
        return logits if size is None else nn.functional.interpolate(logits, size, mode="bilinear")

    def training_step(self, batch: Item, batch_idx: int) -> Tensor:
        image, mask = batch
        logits = self(image)
        loss: Tensor = self.loss(logits, mask)
        ignored = self.settings["data"]["ignore_index"]
        counts = smp.metrics.get_stats(
            logits.argmax(1), mask, mode="multiclass", num_classes=self.classes, ignore_index=ignored
        )
        self.outputs.append(dict(zip(("tp", "fp", "fn", "tn"), counts, strict=True)))
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def on_train_epoch_end(self) -> None:
        counts = [torch.cat([output[name] for output in self.outputs]) for name in ("tp", "fp", "fn", "tn")]
        self.log("train_iou", smp.metrics.iou_score(*counts, reduction="micro-imagewise"))
        self.outputs.clear()

    def configure_optimizers(self) -> Any:
        config = self.settings["optimizer"]
        chosen: Any = optimizer_class(config["name"])
        optimizer = chosen(self.parameters(), lr=config["lr"], weight_decay=config["weight_decay"], **config["args"])
        schedule = instantiate(self.settings["scheduler"])(optimizer, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def peer_loader(
    settings: Mapping[str, Any], paths: Sequence[tuple[Path, Path]], transforms: Sequence[Any], size: Sequence[int]
) -> DataLoader[Item]:
    """Shuffled batches; everything else as DataLoader has it by default."""
    data = settings["data"]
    return DataLoader(
        Files(paths, transforms, size), batch_size=data["batch_size"], shuffle=True, num_workers=data["num_workers"]
    )
