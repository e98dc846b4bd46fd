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
from hydra.utils import get_class, instantiate
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from segmentation.benchmarks.contestants import WARM_UP, Stopwatch
from segmentation.benchmarks.files import sample_files
from segmentation.cost import peak_memory
from segmentation.data.augment import build_transform
from segmentation.data.module import start_worker
from segmentation.errors import UserError
from segmentation.models.backbones import normalisation, weights_keywords
from segmentation.optim import optimizer_class

Item = tuple[Tensor, Tensor]


class Files(Dataset[Item]):
    """Images and masks of class indices decoded anew each time, augmented without a seed of their own.

    Args:
        paths: of image and mask.
        transforms: of albumentations.
        size: that both are brought to.
        ignore_index: label of what a transform moves in, as in this project.
    """

    def __init__(
        self, paths: Sequence[tuple[Path, Path]], transforms: Sequence[Any], size: Sequence[int], ignore_index: int
    ) -> None:
        self.paths, self.void = list(paths), np.uint8(ignore_index)
        self.transform = A.Compose([*transforms, A.Resize(*size)], mask_interpolation=cv2.INTER_NEAREST)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Item:
        image = cv2.imread(str(self.paths[index][0]), cv2.IMREAD_COLOR_RGB)
        mask = np.asarray(Image.open(self.paths[index][1]))  # OpenCV would turn a palette into grey values
        changed = self.transform(image=image, mask=mask - self.void)  # transforms fill masks with 0; uint8 wraps around
        labels = (changed["mask"] + self.void).astype(np.int64)
        return torch.from_numpy(changed["image"].transpose(2, 0, 1)), torch.from_numpy(labels)


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
        keywords = weights_keywords(backbone["name"], backbone["weights"])
        self.model = instantiate(
            {**settings["decoder"], "_target_": peers_own(settings["decoder"]["_target_"])},
            encoder_name=f"tu-{backbone['name']}",
            encoder_weights=keywords.pop("pretrained", None),
            classes=classes,
            _convert_="all",  # weights from a package are tensors, which a configuration cannot hold
            **keywords,
        )
        mean, std = normalisation(backbone["name"])
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.loss: nn.Module = instantiate(settings["loss"])
        self.settings, self.classes, self.steps = settings, classes, steps
        self.outputs: list[dict[str, Tensor]] = []

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Images [B, 3, H, W] in 0...1 to logits [B, classes, H, W], or at `size`."""
        logits: Tensor = self.model((image - self.mean) / self.std)
        return logits if size is None else nn.functional.interpolate(logits, size, mode="bilinear")

    def training_step(self, batch: Item, batch_idx: int) -> Tensor:
        image, mask = batch
        logits = self(image / 255)
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


def peers_own(target: str) -> str:
    """The decoder of segmentation_models_pytorch that this one is, or is made from."""
    for kind in get_class(target).__mro__:
        if kind.__module__.startswith("segmentation_models_pytorch.decoders."):
            return f"{kind.__module__}.{kind.__qualname__}"
    raise UserError("decoder: the benchmark's peer has those of segmentation_models_pytorch; try decoder=fpn")


class Peer:
    """The peer's training, measured in images a second."""

    def __init__(
        self, settings: Mapping[str, Any], folder: Path, steps: int, device: str, precision: str, workers: int
    ) -> None:
        self.settings, self.folder, self.steps = settings, folder, steps
        self.device, self.precision, self.workers = torch.device(device), precision, workers
        self.paths = sample_files(settings, "train")
        self.task: PeerTask | None = None

    def train(self) -> float:
        """Images a second of some steps of a training."""
        watch = Stopwatch()
        if self.task is None:
            torch.manual_seed(0)
            self.task = PeerTask(self.settings, len(self.settings["data"]["classes"]), WARM_UP + self.steps)
        trainer = peer_trainer(
            self.folder,
            accelerator="gpu" if self.device.type == "cuda" else self.device.type,
            precision=self.precision,
            max_epochs=-1,  # as many as the steps take
            max_steps=WARM_UP + self.steps,
            callbacks=[watch],
        )
        trainer.fit(self.task, peer_loader(self.settings, self.paths, self.workers))
        return watch.rate

    def memory(self) -> float | None:
        """MiB at the peak of the same, the network included if it is the first call."""
        return peak_memory(self.train, self.device)


def peer_loader(settings: Mapping[str, Any], paths: Sequence[tuple[Path, Path]], workers: int) -> DataLoader[Item]:
    """Augmented training samples in shuffled batches; all else as DataLoader has it by default, but for OpenCV, which
    would start a thread for every core in each worker.
    """
    data = settings["data"]
    transforms = [build_transform(name, config) for name, config in settings["augment"].items()]
    if data["size"] is None:
        raise UserError("data.size=null: the peer's batches are of one size; give data.size=[height,width]")
    files = Files(paths, transforms, data["size"], data["ignore_index"])
    return DataLoader(
        files, batch_size=data["batch_size"], shuffle=True, num_workers=workers, worker_init_fn=start_worker
    )


def peer_trainer(folder: Path, **keywords: Any) -> pl.Trainer:
    """Lightning's Trainer as the example has it, that logs every step."""
    return pl.Trainer(
        devices=1,
        log_every_n_steps=1,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_model_summary=False,
        **keywords,
    )
