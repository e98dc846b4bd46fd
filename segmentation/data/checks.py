"""What is looked at before a training begins: that every sample can be read, what is white, that every class occurs."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from rich.progress import track

from segmentation.data.samples import Reader
from segmentation.errors import UserError

BINARY = "masks hold nothing but 0 and 255; if 255 is a class and not void, set data.reader.labels=[0,255]"
VOID = "no pixel has a class, all are void; see data.ignore_index and data.reader"
DARK = 14  # bits: who stores no more in 16 does so by the camera's depth, and not because the scenes are dark
log = logging.getLogger(__name__)


class Darkness(NamedTuple):
    """Images of 16 bits, or of whole numbers that are longer, that use few of them while nothing says what is white."""

    images: int  # how many
    peak: int  # the largest value in them
    brightest: int  # the position of the one that has it
    black: bool  # all there is is black to the network

    def text(self, where: str) -> str:
        """What is wrong and what to do, on one line; `where` is the brightest."""
        white = 2 ** self.peak.bit_length() - 1
        return (
            f"data.white: not set, and {self.images} images of more than 8 bits store {self.peak} at most ({where}), "
            f"which is {'' if self.black else 'nearly '}black where 65535 is white; set data.white={white}"
        )


def find_darkness(peaks: Sequence[int | None]) -> Darkness | None:
    """What there is to say of images whose peaks are these, as `Sample` has them."""
    deep = {position: peak for position, peak in enumerate(peaks) if peak is not None}
    brightest = max(deep, key=lambda position: deep[position], default=0)
    peak = deep.get(brightest, 0)
    if not 0 < peak.bit_length() <= DARK:
        return None
    return Darkness(len(deep), peak, brightest, black=len(deep) == len(peaks) and peak <= 255)


def check_depth(reader: Reader, split: str, peaks: Sequence[int | None]) -> None:
    """Warn of training images so dark that `data.white` must have been forgotten.

    Args:
        reader: of the split.
        split: its name.
        peaks: of its samples.

    Raises:
        UserError: if all images of the split are black to the network.
    """
    darkness = find_darkness(peaks)
    if darkness is None:
        return
    line = darkness.text(str(reader.image_file(darkness.brightest)))
    if darkness.black:
        raise UserError(line)
    if split == "train":
        log.warning(line)


def check_samples(reader: Reader, split: str, num_classes: int, seen: set[int] | None = None) -> None:
    """Read every sample in threads; warn of classes that no pixel has, and as `check_depth`.

    Args:
        reader: of the split.
        split: its name.
        num_classes: labels are 0 ... num_classes - 1.
        seen: the labels that occur, where every sample has been read already.

    Raises:
        UserError: for the first sample that cannot be used, or if nothing can be learned or chosen by all of them.
    """

    def read(index: int) -> tuple[list[int], int | None]:
        sample = reader[index]
        return np.unique(sample.mask).tolist(), sample.peak

    if seen is None:
        seen = set()
        with ThreadPoolExecutor() as pool:
            found = list(track(pool.map(read, range(len(reader))), f"checking {split}", len(reader), transient=True))
        seen.update(*(labels for labels, _ in found))
        check_depth(reader, split, [peak for _, peak in found])
    absent = [str(label) for label in range(num_classes) if label not in seen]
    if split in ("train", "val") and len(absent) == num_classes:
        raise UserError(f"data: {split}: {VOID}")
    if split == "train" and seen == {0, 255}:
        raise UserError(f"data: {split}: {BINARY}")
    if absent and split == "train":
        log.warning(
            f"data: no training pixel is of class {', '.join(absent)}; if masks store other labels, set "
            "data.reader.labels"
        )
    elif absent:
        log.warning(f"data: no pixel of {split} is of class {', '.join(absent)}, which its means leave out")
