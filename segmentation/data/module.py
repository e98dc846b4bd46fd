"""The LightningDataModule: from a data set's configuration to batches."""

import os
import re
from collections.abc import Mapping
from typing import Any

import cv2
import pytorch_lightning as pl
import torch
from hydra.utils import get_class
from torch.utils.data import DataLoader, Dataset

from segmentation.data.augment import Augmentation
from segmentation.data.cache import cached, find_store
from segmentation.data.reader import require
from segmentation.data.samplers import EvaluationSampler, TrainBatches, TrainSampler
from segmentation.data.samples import EvaluationSamples, Item, Reader, TrainSamples, collate
from segmentation.errors import UserError

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
    """One thread a worker: the workers themselves are the parallelism."""
    cv2.setNumThreads(0)


def check_labels(classes: list[str], colours: list[list[int]], ignore_index: int) -> None:
    """Raise a UserError unless these can be labels of masks, whose pixels are bytes."""
    if not 2 <= len(classes) <= 255:
        raise UserError(f"data.classes: {len(classes)} of them; give 2 to 255")
    if len(set(classes)) < len(classes):
        raise UserError("data.classes: a name is there twice")
    if len(classes) != len(colours):
        raise UserError(f"data.colours: {len(colours)} for {len(classes)} classes; give each class one")
    for name, colour in zip(classes, colours, strict=True):
        if len(colour) != 3 or not all(0 <= part <= 255 for part in colour):
            raise UserError(f"data.colours: {colour} of {name} is no RGB triple of 0 to 255")
    if not 0 <= ignore_index <= 255:
        raise UserError(
            f"data.ignore_index={ignore_index}: masks hold 0 to 255; map the label by data.reader.label_map"
        )


class DataModule(pl.LightningDataModule):
    """A data set's splits as batches of image uint8 [B, 3, H, W], mask int64 [B, H', W'] and index int64 [B].

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
        self.colours: list[list[int]] = config["colours"]
        self.ignore_index: int = config["ignore_index"]
        check_labels(self.classes, self.colours, self.ignore_index)
        self.size: list[int] | None = config["size"]
        self._reader_class: Any = get_class(config["reader"]["_target_"])
        self._reader_keywords = {key: value for key, value in config["reader"].items() if key != "_target_"}
        self.augmentation = Augmentation(augment, self.ignore_index)
        self.splits = {split: listing for split, listing in config["splits"].items() if self._exists(split, listing)}
        self.test_split = "test" if "test" in self.splits else "val"
        self._readers: dict[str, Reader] = {}

    def _exists(self, split: str, listing: Any) -> bool:
        root = self.config["root"]
        return bool(self._reader_class.exists(root=root, split=split, listing=listing, **self._reader_keywords))

    def reader(self, split: str) -> Reader:
        """The samples of a split."""
        if split not in self._readers:
            require(split, list(self.splits), self.name)
            self._readers[split] = self._reader_class(
                root=self.config["root"],
                split=split,
                listing=self.splits[split],
                num_classes=len(self.classes),
                ignore_index=self.ignore_index,
                **self._reader_keywords,
            )
        return self._readers[split]

    def prepare(self, *splits: str) -> None:
        """See that every file of these splits can be used, and keep what was decoded for that in the cache, where there
        is one; nothing of both if `data.check` is off.

        Raises:
            UserError: for the first file that cannot.
        """
        store = find_store(self.config["cache"], self.config["cache_gib"])
        for split in dict.fromkeys(splits) if self.config["check"] else ():
            reader = self.reader(split)
            if store is not None:
                kept = self._readers.values()
                reader = self._readers[split] = cached(reader, store, f"reading {split}", keep=kept)
            reader.check()

    def contract(self, split: str) -> dict[str, Any]:
        """What scores on this split were computed on: only equal contracts may be compared."""
        return {
            "split": split,
            "num_images": len(self.reader(split)),
            "ignore_index": self.ignore_index,
            "resolution": "mask",
            "files_hash": self.reader(split).files_hash(),
        }

    def groups(self, split: str) -> list[str] | None:
        """The video of every sample, by `data.group`; None where the data set does not say. A name that the expression
        does not fit is a video of its own.
        """
        if self.config["group"] is None:
            return None
        matches = [(name, re.match(self.config["group"], name)) for name in self.reader(split).names]
        return [match[1] if match else name for name, match in matches]

    def _position(self) -> tuple[int, int]:
        """Rank of this process and how many there are; alone without a trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _batch_size(self) -> int:
        """Images a process takes at a time, so that an optimizer step sees `data.batch_size` in all."""
        steps = self.trainer.accumulate_grad_batches if self.trainer else 1
        parts = self._position()[1] * steps
        whole: int = self.config["batch_size"]
        size, rest = divmod(whole, parts)
        if rest or size == 0:
            raise UserError(
                f"data.batch_size={whole}: does not divide by {parts}, "
                "the processes times trainer.accumulate_grad_batches"
            )
        return size

    def train_dataloader(self) -> DataLoader[Item]:
        reader = self.reader("train")
        sampler = TrainSampler(len(reader), self.seed, *self._position())
        batches = TrainBatches(sampler, self._batch_size())
        if len(batches) == 0:
            raise UserError(
                f"data: {len(reader)} training images leave a process none; lower data.batch_size or devices"
            )
        samples = TrainSamples(reader, self.augmentation, self.size, self.seed)
        return self._loader(samples, batch_sampler=batches)

    def val_dataloader(self) -> DataLoader[Item]:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Item]:
        return self._evaluation_loader(self.test_split)

    def _evaluation_loader(self, split: str) -> DataLoader[Item]:
        reader = self.reader(split)
        sampler = EvaluationSampler(len(reader), *self._position())
        samples = EvaluationSamples(reader, self.size, self.ignore_index)
        return self._loader(samples, sampler=sampler, batch_size=self.config["eval_batch_size"])

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
