"""What is known of every sample after it was read once, whatever was wrong with it."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from segmentation.data.channels import visible
from segmentation.data.images import FORMATS, read_deep
from segmentation.data.samples import Reader, count_labels
from segmentation.errors import UserError

THUMB = 16  # rows and columns of the grey thumbnails that are compared
Colour = tuple[int, ...]
Levels = tuple[tuple[float, float], ...]  # of each channel, in 0...1: the mean of its values, and of their squares


@dataclass
class Fact:
    """What is known of one sample.

    Attributes:
        problem: why it cannot be used, in one line; all that follows is then empty.
        size: height and width.
        pixels: of each label 0...255.
        digest: of what the image's file stores, equal for equal images.
        peak: of the image, as `Sample` has it.
        peaks: the largest stored value of each channel, where the image's file is of 16 bits.
        levels: of the image, as the network sees it.
        thumb: grey thumbnail of mean 0 and length 1, or all 0 for an image of one colour, float32 [THUMB * THUMB].
        palette: colour of each label that occurs, where the mask has a palette.
    """

    split: str
    name: str
    problem: str | None = None
    size: tuple[int, int] = (0, 0)
    pixels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    digest: str = ""
    peak: int | None = None
    peaks: tuple[int, ...] = ()
    levels: Levels = ()
    thumb: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(THUMB * THUMB, np.float32))
    palette: dict[int, Colour] = field(default_factory=dict)


def collect(reader: Reader, split: str, seen: Callable[[], object]) -> list[Fact]:
    """Read every sample of a split by a pool of threads; one that cannot be read becomes a fact as well.

    Args:
        reader: of the split.
        split: its name.
        seen: is called after every sample.
    """

    def read(index: int) -> Fact:
        try:
            return examine(reader, split, index)
        except UserError as error:
            return Fact(split, reader.names[index], problem=str(error))
        finally:
            seen()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(read, range(len(reader))))


def examine(reader: Reader, split: str, index: int) -> Fact:
    """What there is to know of one sample.

    Raises:
        UserError: if it cannot be used.
    """
    sample = reader[index]
    image, mask = sample.image, sample.mask
    deep = read_stored(reader, index, image.shape[2])
    stored = image if deep is None else deep  # images that `data.white` makes too dark are not therefore the same
    mask_file = reader.mask_file(index)
    return Fact(
        split,
        sample.name,
        size=(mask.shape[0], mask.shape[1]),
        pixels=count_labels(mask),
        digest=hashlib.sha256(stored.tobytes() + repr((stored.shape, stored.dtype.str)).encode()).hexdigest(),
        peak=sample.peak,
        peaks=() if deep is None else tuple(deep.max((0, 1)).tolist()),
        levels=tuple(find_levels(np.ascontiguousarray(image[..., channel])) for channel in range(image.shape[2])),
        thumb=thumbnail(visible(image if deep is None else stretch(deep))),
        palette=read_palette(mask_file) if mask_file else {},
    )


def read_stored(reader: Reader, index: int, channels: int) -> npt.NDArray[Any] | None:
    """What is stored of an image of 16 bits; None for others, and for images without file."""
    file = reader.image_file(index) if hasattr(reader, "image_file") else None  # a reader from elsewhere may have none
    return read_deep(file, channels) if file else None


def find_levels(channel: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """The mean of a channel's values [H, W], in 0...1, and of their squares."""
    mean, deviation = (float(value[0, 0]) / 255 for value in cv2.meanStdDev(channel))
    return mean, deviation**2 + mean**2


def stretch(deep: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Values of 16 bits as bytes, the largest as 255."""
    return np.asarray(deep.astype(np.float32) * (255 / max(1, int(deep.max()))), np.uint8)


def thumbnail(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """A grey thumbnail as a vector whose products are correlations: neither brightness nor contrast matters."""
    grey: Any = cv2.cvtColor(cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    vector = grey.astype(np.float32).ravel()
    vector -= vector.mean()
    length = float(np.linalg.norm(vector))
    return np.asarray(vector / length if length > THUMB else vector * 0, np.float32)  # less is one colour with noise


def read_palette(mask_file: Path) -> dict[int, Colour]:
    """Stored label -> colour, for the labels that occur in a mask with a palette."""
    with Image.open(mask_file, formats=FORMATS) as mask:
        colours = mask.getpalette("RGB") if mask.mode == "P" else None
        if colours is None:
            return {}
        labels = np.unique(np.asarray(mask)).tolist()
    return {label: tuple(colours[3 * label : 3 * label + 3]) for label in labels}
