"""The LightningDataModule: from a data set's configuration to batches."""

import os
from collections.abc import Mapping
from typing import Any

import cv2
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segmentation.colours import default_colours
from segmentation.data.augment import Augmentation
from segmentation.data.balance import balanced_shares, check_strength
from segmentation.data.channels import check_channels, visible
from segmentation.data.download import download
from segmentation.data.images import Pixels, White
from segmentation.data.samplers import EvaluationSampler, TrainBatches, TrainSampler
from segmentation.data.samples import EvaluationSamples, Item, Reader, TrainSamples, collate
from segmentation.data.splits import Splits, check_labels
from segmentation.errors import UserError
from segmentation.resuming import seed_step
from segmentation.workers import leave_signals_to_parent

MOST_WORKERS = 8  # by default: more hardly feed one device faster, and each holds memory


def count_workers(wanted: int | str, on_cuda: bool, processes: int) -> int:
    """How many workers load for each of the processes that train on this machine.

    On a CPU there is no time to hide: what a worker takes from the cores, the network lacks, and handing batches over
    costs more than reading them from the cache.
    """
    if wanted == "auto":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(MOST_WORKERS, max(1, cores // processes)) if on_cuda else 0
    if not isinstance(wanted, int) or wanted < 0:
        raise UserError(f"data.num_workers={wanted}: give a number, or auto")
    return wanted


def start_worker(worker: int) -> None:
    """One thread a worker: the workers themselves are the parallelism. A signal to the whole run is not for them."""
    cv2.setNumThreads(0)
    leave_signals_to_parent()


class DataModule(pl.LightningDataModule):
    """A data set's splits as batches of image uint8 [B, C, H, W], mask int64 [B, H', W'] and index int64 [B].

    Args:
        config: the keys of `DataConfig`, as plain containers.
        augment: name -> albumentations transform, for training only.
        seed: of the run: with epoch and index it decides what happens to a sample.
    """

    def __init__(self, config: Mapping[str, Any], augment: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.name: str = config["name"]
        self.classes: list[str] = config["classes"]
        self.colours: list[list[int]] = config["colours"] or default_colours(len(self.classes))
        self.ignore_index: int = config["ignore_index"]
        check_labels(self.classes, self.colours, self.ignore_index)
        check_strength(config["balance"])
        check_channels(config)
        self.channels: int = config["channels"]
        self.white: White = config["white"]
        self.shown: list[int] | None = config["shown"]
        self.size: list[int] | None = config["size"]
        self.augmentation = Augmentation(augment, self.ignore_index, self.channels)
        if config["download"]:
            download(config["source"], config["root"], self.name)
        self.splits = Splits(config)
        self._shares: Tensor | None = None
        # Epoch and batch that a training goes on with. Lightning sets the epoch only after workers have begun to load.
        self.begun = (0, 0)
        self.test_split = "test" if "test" in self.splits.sources else "val"

    @property
    def batch_size(self) -> int:
        """`data.batch_size`, which Lightning's tuner changes by this name."""
        whole: int = self.config["batch_size"]
        return whole

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self.config = {**self.config, "batch_size": size}

    def reader(self, split: str) -> Reader:
        """The samples of a split."""
        return self.splits.reader(split)

    def prepare(self, *splits: str) -> None:
        """As `Splits.prepare`."""
        self.splits.prepare(splits)

    def contract(self, split: str) -> dict[str, Any]:
        """What scores on this split were computed on: only equal contracts may be compared."""
        return {
            "split": split,
            "num_images": len(self.reader(split)),
            "ignore_index": self.ignore_index,
            "resolution": "mask",
            "files_hash": self.reader(split).files_hash(),
        }

    def visible(self, image: Pixels) -> Pixels:
        """An image [H, W, C] as RGB [H, W, 3], by `data.shown`."""
        return visible(image, self.shown)

    def groups(self, split: str) -> list[str] | None:
        """As `Splits.group`, of every sample of a split."""
        return self.splits.group(self.reader(split).names)

    def _position(self) -> tuple[int, int]:
        """Rank of this process and how many there are; alone without a trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _batch_size(self) -> int:
        """Images a process takes at a time, so that an optimizer step sees `data.batch_size` in all."""
        steps = self.trainer.accumulate_grad_batches if self.trainer else 1
        parts = self._position()[1] * steps
        whole = self.batch_size
        size, rest = divmod(whole, parts)
        if rest or size == 0:
            raise UserError(
                f"data.batch_size={whole}: does not divide by {parts}, "
                "the processes times trainer.accumulate_grad_batches"
            )
        return size

    def train_dataloader(self) -> DataLoader[Item]:
        reader = self.reader("train")
        sampler = TrainSampler(len(reader), self.seed, *self._position(), self._balanced(reader))
        batches = TrainBatches(sampler, self._batch_size())
        if len(batches) == 0:
            raise UserError(
                f"data: {len(reader)} training images leave a process none; lower data.batch_size or devices"
            )
        batches.go_on(*self.begun)
        samples = TrainSamples(reader, self.augmentation, self.size, self.seed)
        return self._loader(samples, batch_sampler=batches)

    def _balanced(self, reader: Reader) -> Tensor | None:
        """How often each sample is drawn, where `data.balance` is not 0."""
        if self.config["balance"] and self._shares is None:
            quiet, strength = self._position()[0] > 0, self.config["balance"]
            self._shares = balanced_shares(reader, strength, len(self.classes), self.ignore_index, quiet=quiet)
        return self._shares

    def val_dataloader(self) -> DataLoader[Item]:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Item]:
        return self._evaluation_loader(self.test_split)

    def _evaluation_loader(self, split: str) -> DataLoader[Item]:
        reader = self.reader(split)
        sampler = EvaluationSampler(len(reader), *self._position())
        samples = EvaluationSamples(reader, self.size, self.ignore_index)
        return self._loader(samples, sampler=sampler, batch_size=self.config["eval_batch_size"])

    def on_before_batch_transfer(self, batch: Item, dataloader_idx: int) -> Item:
        """The batch as it is; from here on what a training step draws depends on seed, epoch, batch and rank alone."""
        if self.trainer is not None and self.trainer.training:
            batches = self.trainer.fit_loop.epoch_loop.batch_progress.current
            seed_step(self.seed, self.trainer.current_epoch, batches.ready, self.trainer.global_rank)
        return batch

    def transfer_batch_to_device(self, batch: Item, device: torch.device, dataloader_idx: int) -> Item:
        """The batch on the device, but for the index, which is read after every batch of a validation: from the
        device, the host would have to wait for all that it is still computing.
        """
        moving = {key: value for key, value in batch.items() if key != "index"}
        return {**super().transfer_batch_to_device(moving, device, dataloader_idx), "index": batch["index"]}

    def on_after_batch_transfer(self, batch: Item, dataloader_idx: int) -> Item:
        """Labels as int64, which losses and metrics want; from the workers to the device they travel as bytes."""
        return {**batch, "mask": batch["mask"].long()}

    def _loader(self, samples: Dataset[Item], **how: Any) -> DataLoader[Item]:
        on_cuda = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        workers = count_workers(self.config["num_workers"], on_cuda, self.trainer.num_devices if self.trainer else 1)
        return DataLoader(
            samples,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=start_worker,
            collate_fn=collate,
            generator=torch.Generator(),  # its own: drawing the workers' seeds must not move the run's random state
            pin_memory=on_cuda,
            **how,
        )
