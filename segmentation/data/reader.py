"""Samples from a labelled folder of images, as a data set's YAML describes it."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.progress import track

from segmentation.data.labels import Labels, Pixels
from segmentation.data.patterns import fill, match_lines, match_paths
from segmentation.errors import UserError


class Sample(NamedTuple):
    """An image uint8 [H, W, 3] in RGB, its mask uint8 [H, W] of class indices or `ignore_index`, and its name."""

    image: Pixels
    mask: Pixels
    name: str


class Reader(Protocol):
    """One split of a data set.

    `data.reader._target_` names its class, which is called with `split` (the split's name), `value` (what
    `data.splits` says for it), `root`, `classes`, `colours`, `ignore_index`, and the further keys of `data.reader`.
    """

    names: Sequence[str]  # unique in the split, without suffix, parts of a path between `/`
    files_hash: str  # sha256 over all that the samples are read from, wherever the data set's folder lies

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def check(self) -> None:
        """Raise a UserError that names the first sample which cannot be used, or says that there is none."""


class FileReader:
    """Pairs of image and mask files, found by patterns.

    `image` and `mask` are paths below `root` with fields in braces: `{split}` is what `data.splits` says for the
    split; all others differ from sample to sample, and `{name}` must be one of them. The samples are those that the
    lines of `split_file` describe or, without one, all images that fit the pattern.

    Args:
        split: the split's name.
        value: the data set's own word for it.
        root: the data set's folder.
        classes: their names.
        colours: an RGB triple for each class.
        ignore_index: of void pixels.
        image: pattern of the images' paths.
        mask: pattern of the masks' paths.
        split_file: pattern of the path of a list with a line for each sample.
        line: regular expression that the start of such a line fits; its named groups fill the patterns' fields.
        label_map: stored label to class index, or to null for void, as in `Labels`.

    Raises:
        UserError: for a folder that is not there, lines or patterns that do not fit, and names that cannot be used.
            A split without samples is not an error before `check`.
    """

    def __init__(
        self,
        split: str,
        value: str,
        *,
        root: str | None,
        classes: Sequence[str],
        colours: Sequence[Sequence[int]],
        ignore_index: int,
        image: str,
        mask: str,
        split_file: str | None = None,
        line: str = r"(?P<name>\S+)",
        label_map: Mapping[int, int | None] | None = None,
    ) -> None:
        if root is None:
            raise UserError("data.root: not set; add data.root=<the data set's folder>")
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise UserError(f"data.root={root}: no such folder")
        self.split = split
        image, mask, self.source = (
            pattern.replace("{split}", str(value)) for pattern in (image, mask, split_file or image)
        )
        found = match_lines(self.root / self.source, line) if split_file else match_paths(self.root, image)
        self.names = [fields["name"] for fields in found]
        self.images = [fill("image", image, fields) for fields in found]
        self.masks = [fill("mask", mask, fields) for fields in found]
        self._check_names()
        self.labels = Labels(colours, ignore_index, label_map)
        self.files_hash = hashlib.sha256("\n".join([*self.images, *self.masks]).encode()).hexdigest()

    def _check_names(self) -> None:
        for name, count in Counter(self.names).items():
            if count > 1:
                raise UserError(f"{self.root / self.source}: {name!r} names {count} samples; mend data.reader")
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise UserError(f"{self.root / self.source}: {name!r} leads out of a folder; mend data.reader.line")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Raises a UserError for files that are missing, unreadable, of different sizes, or with unknown labels."""
        image_path, mask_path = self.root / self.images[index], self.root / self.masks[index]
        image, stored = read_image(image_path), read_mask(mask_path)
        if image.shape[:2] != stored.shape[:2]:
            sizes = [f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in (stored, image)]
            raise UserError(f"{mask_path}: the mask is {sizes[0]}, but its image {image_path} is {sizes[1]}")
        try:
            mask = self.labels.decode(stored)
        except ValueError as error:
            raise UserError(f"{mask_path}: {error}; mend the mask or data.reader.label_map") from error
        return Sample(image, mask, self.names[index])

    def check(self) -> None:
        """Read every sample once."""
        if not self.names:
            raise UserError(f"{self.root / self.source}: no sample for data.splits.{self.split}")
        with ThreadPoolExecutor() as pool:
            reading = pool.map(self._try, range(len(self)))
            for _ in track(reading, f"checking {self.split}", total=len(self), transient=True):
                pass

    def _try(self, index: int) -> None:
        self[index]  # the sample itself would pile up in the pool


def read_image(path: Path) -> Pixels:
    """An image file as RGB uint8 [H, W, 3]; a UserError where that cannot be."""
    return _read(path, lambda image: image.convert("RGB"))


def read_mask(path: Path) -> npt.NDArray[np.integer]:
    """What a mask file stores: indices [H, W], or RGB uint8 [H, W, 3] where it has colours and no palette."""
    return _read(path, lambda image: image.convert("RGB") if image.mode == "RGBA" else image)
