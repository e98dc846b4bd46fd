"""Samples: what a reader gives, what training and evaluation make of them, and how they become a batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from segmentation.data.augment import Augmentation, resize_image, resize_mask
from segmentation.data.images import Pixels
from segmentation.data.samplers import UNCOUNTED, Key
from segmentation.errors import UserError

Item = dict[str, Tensor]
Size = list[int] | None


class Sample(NamedTuple):
    """An image and what its pixels are."""

    image: Pixels  # [H, W, C], RGB unless `data.channels` says otherwise
    mask: Pixels  # [H, W], class indices or the ignore index
    name: str
    peak: int | None = (
        None  # stored in the image's file, at most, where it is of 16 bits and nothing says what is white
    )


class Reader(Protocol):
    """One split of a data set."""

    names: list[str]  # of the samples: unique, fit for file names

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def select(self, indices: Sequence[int]) -> "Reader":
        """Some of the samples, in this order."""

    def image_file(self, index: int) -> Path | None:
        """Where the image of a sample lies, if it has a file of its own."""

    def mask_file(self, index: int) -> Path | None:
        """Where the mask of a sample lies, if it has a file of its own."""

    def check(self, seen: set[int] | None = None) -> None:
        """Raise a UserError that names the first sample that cannot be used, and warn of what looks wrong in all.

        Where every sample has been read already, `seen` are the labels in them.
        """

    def files_hash(self) -> str:
        """A digest of which samples these are, wherever they lie."""

    def fingerprint(self) -> str | None:
        """A digest of all that the samples depend on, for a cache of them; None where reading them is cheap."""


class TrainSamples(Dataset[Item]):
    """Augmented samples at the network's size: image uint8 [C, H, W], mask uint8 [H, W], index int64."""

    def __init__(self, reader: Reader, augmentation: Augmentation, size: Size, seed: int) -> None:
        self.reader, self.augmentation, self.size, self.seed = reader, augmentation, size, seed

    def __getitem__(self, key: Key) -> Item:
        index = key[1]
        sample = self.reader[index]
        seed = int(np.random.SeedSequence((self.seed, *key)).generate_state(1)[0])
        image, mask = self.augmentation(sample.image, sample.mask, seed)
        return to_item(resize_image(image, self.size), resize_mask(mask, self.size), index)


class EvaluationSamples(Dataset[Item]):
    """Samples as they are, the image at the network's size, the mask at its own."""

    def __init__(self, reader: Reader, size: Size, ignore_index: int) -> None:
        self.reader, self.size, self.void = reader, size, ignore_index

    def __getitem__(self, key: Key) -> Item:
        if key[1] == UNCOUNTED:
            sample = self.reader[0]
            return to_item(resize_image(sample.image, self.size), np.full_like(sample.mask, self.void), UNCOUNTED)
        sample = self.reader[key[1]]
        return to_item(resize_image(sample.image, self.size), sample.mask, key[1])


def count_labels(mask: Pixels) -> npt.NDArray[np.int64]:
    """Pixels of each label 0...255 in a mask."""
    return np.bincount(mask.ravel(), minlength=256)


def to_item(image: Any, mask: Any, index: int) -> Item:
    """Arrays [H, W, C] and [H', W'] as tensors."""
    return {
        "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
        "mask": torch.from_numpy(np.ascontiguousarray(mask)),
        "index": torch.tensor(index),
    }


def collate(items: list[Item]) -> Item:
    """Samples of one size to a batch."""
    for key in ("image", "mask"):
        sizes = {tuple(item[key].shape[-2:]) for item in items}
        if len(sizes) > 1:
            raise UserError(f"data.size: {key}s of {sorted(sizes)} cannot share a batch; set data.size=[height,width]")
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}
