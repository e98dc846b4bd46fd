"""Samples from a cache that is whole."""

import copy
import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from segmentation.data.samples import Reader, Sample

INDEX = ".json"  # beside the samples: their sizes, channels and peaks, and the labels in them
COUNT = np.dtype("<u4")  # of the pixels of a label in a sample


class CachedReader:
    """A reader whose samples were decoded before.

    Args:
        reader: where they come from.
        file: a cache that is whole.
    """

    def __init__(self, reader: Reader, file: Path) -> None:
        self.reader, self.file = reader, file
        self.names = reader.names
        index = json.loads(file.with_suffix(INDEX).read_text())
        self.seen: set[int] = set(index["seen"])
        self.sizes: list[tuple[int, int]] = [tuple(size) for size in index["sizes"]]
        self.channels: int = index["channels"]
        self.peaks: list[int | None] = index["peaks"]  # as `sizes`, of all that are in the file
        self.offsets = [0, *accumulate((self.channels + 1) * height * width for height, width in self.sizes)]
        self.positions: Sequence[int] = range(len(self.sizes))  # in the file, of the samples
        self.bytes = np.memmap(self.file, np.uint8, "r")

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker maps the file itself; pickling would copy all of it.
        return reopen, (self.reader, self.file, self.positions)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        position = self.positions[index]
        height, width = self.sizes[position]
        stored = np.array(self.bytes[self.offsets[position] : self.offsets[position + 1]])  # a copy may be written to
        colours, labels = np.split(stored, [self.channels * height * width])
        image, mask = colours.reshape(height, width, self.channels), labels.reshape(height, width)
        return Sample(image, mask, self.names[index], self.peaks[position])

    def pixels(self) -> npt.NDArray[np.int64]:
        """Pixels of each label 0...255 in each sample, [samples, 256], as they were counted when the cache was made."""
        stored = np.frombuffer(self.bytes[self.offsets[-1] :].tobytes(), COUNT).reshape(len(self.sizes), -1)
        found = np.zeros((len(self), 256), np.int64)
        found[:, sorted(self.seen)] = stored[list(self.positions)]
        return found

    def image_file(self, index: int) -> Path | None:
        """As the reader's."""
        return self.reader.image_file(index)

    def mask_file(self, index: int) -> Path | None:
        """As the reader's."""
        return self.reader.mask_file(index)

    def select(self, indices: Sequence[int]) -> Self:
        selected = copy.copy(self)
        selected.reader = self.reader.select(indices)
        selected.names = selected.reader.names
        selected.positions = [self.positions[index] for index in indices]
        return selected

    def check(self, seen: set[int] | None = None) -> None:
        self.reader.check(self.seen)

    def files_hash(self) -> str:
        return self.reader.files_hash()

    def fingerprint(self) -> str | None:
        return self.reader.fingerprint()


def reopen(reader: Reader, file: Path, positions: Sequence[int]) -> Reader:
    """In another process: the cache again, or the reader itself if another run has taken its room since."""
    try:
        found = CachedReader(reader, file)
        found.positions = positions
        return found
    except OSError:
        return reader
