"""Labelled images on disk, described in YAML: where images and masks lie, which belong to a split, what labels mean."""

import hashlib
import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

from segmentation.data.images import read_image, read_mask
from segmentation.data.samples import Sample
from segmentation.errors import UserError, nearest

log = logging.getLogger(__name__)


class FileReader:
    """Samples from image and mask files below `root`.

    A split's list holds a line for each sample: a name, for the `{name}` of the patterns, or the paths of image and
    mask. Without a list, the samples are whatever files fit the image's pattern.

    Args:
        root: the data set's folder.
        split: stands for `{split}` in the patterns.
        listing: the split's list file below `root`, or None.
        image: pattern of the image's path, such as `{split}/{name}.png`; `*` stands for anything.
        mask: pattern of the mask's path: a grey or palette picture of labels.
        num_classes: labels are 0 ... num_classes - 1.
        ignore_index: label of void pixels.
        label_map: stored label -> label, for those that differ.
    """

    def __init__(
        self,
        *,
        root: str | None,
        split: str,
        listing: str | None,
        image: str,
        mask: str,
        num_classes: int,
        ignore_index: int,
        label_map: Mapping[int, int] | None = None,
    ) -> None:
        if root is None:
            raise UserError("data.root: not set; give the folder of the data set, data.root=/path")
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"data.root={root}: no such folder")
        self.split, self.image, self.mask = split, image, mask
        self.num_classes = num_classes
        self.table = label_table(num_classes, ignore_index, label_map or {})
        found = list(self._listed(listing) if listing else self._found())
        self.paths = dict(found)
        self.names = list(self.paths)
        for name, (path, _) in found:
            if self.paths[name][0] != path:
                raise UserError(f"{path} and {self.paths[name][0]}: both are called {name!r}; names must be unique")
        if not self.names:
            place = listing or image.format(split=split, name="*")
            raise UserError(f"{self.root / place}: no sample of the split {split!r}; check data.root and data.splits")

    @classmethod
    def exists(cls, *, root: str | None, split: str, listing: str | None, image: str, **_: Any) -> bool:
        """Whether the data set has this split: a list, or without lists any file that fits the pattern, says so."""
        if not isinstance(listing, str | None):
            raise UserError(f"data.splits.{split}={listing}: give the path of a list file below data.root, or null")
        if root is None or not Path(root).is_dir():
            return True  # unknown yet: reading it will say what is wrong
        if listing is not None:
            return (Path(root) / listing).is_file()
        return any(Path(root).glob(image.format(split=split, name="*")))

    def _listed(self, listing: str) -> Iterator[tuple[str, tuple[Path, Path]]]:
        file = self.root / listing
        if not file.is_file():
            raise UserError(
                f"{file}: the list of the split {self.split!r} is not there; check data.root and data.splits"
            )
        for number, line in enumerate(file.read_text().splitlines(), 1):
            match line.strip().split("\t" if "\t" in line else None):
                case []:
                    continue
                case words if (
                    len(words) == 1 or self._fill(self.image, line.strip()).is_file()
                ):  # names may have spaces
                    name = line.strip()
                    yield name, (self._fill(self.image, name), self._fill(self.mask, name))
                case [image, mask]:
                    yield self._name(image), (self._inside(image, file), self._inside(mask, file))
                case _:
                    raise UserError(f"{file}, line {number}: neither a name nor the paths of image and mask")

    def _name(self, image: str) -> str:
        """What `{name}` stands for in the path of an image; its stem where the pattern does not fit."""
        pattern = re.escape(self.image.replace("{split}", self.split)).replace(r"\*", "[^/]*")
        match = re.fullmatch(pattern.replace(re.escape("{name}"), "(.+)"), image)
        return match[1] if match else Path(image).stem

    def _found(self) -> Iterator[tuple[str, tuple[Path, Path]]]:
        pattern = self.image.replace("{split}", self.split)
        before, _, after = (re.escape(part).replace(r"\*", "[^/]*") for part in pattern.partition("{name}"))
        for path in sorted(self.root.glob(pattern.replace("{name}", "*"))):
            match = re.fullmatch(f"{before}(.+){after}", path.relative_to(self.root).as_posix())
            if match:
                yield match[1], (path, self._fill(self.mask, match[1]))

    def _fill(self, pattern: str, name: str) -> Path:
        path = pattern.format(split=self.split, name=name)
        if "*" not in path:
            return self._inside(path, self.root)
        return next(iter(sorted(self.root.glob(path))), self.root / path)

    def _inside(self, path: str, source: Path) -> Path:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise UserError(f"{source}: {path} leads out of {self.root}; paths must be relative to data.root")
        return self.root / path

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        image_path, mask_path = self.paths[name]
        image, stored = read_image(image_path), read_mask(mask_path)
        if image.shape[:2] != stored.shape:
            (height, width), (mask_height, mask_width) = image.shape[:2], stored.shape
            raise UserError(f"{mask_path}: {mask_width}x{mask_height}, but its image is {width}x{height}")
        labels = self.table[stored]
        if labels.min() < 0:
            label = int(stored[labels < 0][0])
            raise UserError(
                f"{mask_path}: label {label} is no class and not data.ignore_index; see data.reader.label_map"
            )
        return Sample(image, labels.astype(np.uint8), name)

    def check(self, seen: set[int] | None = None) -> None:
        """Read every file unless that has been done, in threads; warn of classes that no pixel of the training has."""

        def read(index: int) -> set[int]:
            return set(np.unique(self[index].mask).tolist())

        if seen is None:
            seen = set()
            with ThreadPoolExecutor() as pool:
                labels = pool.map(read, range(len(self)))
                seen.update(*track(labels, f"checking {self.split}", len(self), transient=True))
        absent = [str(label) for label in range(self.num_classes) if label not in seen]
        if absent and self.split == "train":
            log.warning(
                f"{self.root}: no training pixel is of class {', '.join(absent)}; if masks store other labels "
                "(0 and 255, say), set data.reader.label_map and data.ignore_index"
            )

    def files_hash(self) -> str:
        """SHA-256 over the image paths relative to `root`."""
        paths = (image.relative_to(self.root).as_posix() for image, _ in self.paths.values())
        return hashlib.sha256("\n".join(paths).encode()).hexdigest()

    def fingerprint(self) -> str:
        """SHA-256 over the paths, sizes and times of change of all files, and over what their labels become."""
        digest = hashlib.sha256(self.table.tobytes())
        for path in itertools.chain.from_iterable(self.paths.values()):
            try:
                stat = path.stat()
            except OSError:
                raise UserError(f"{path}: no such file") from None
            digest.update(f"{path.absolute()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def label_table(num_classes: int, ignore_index: int, label_map: Mapping[int, int]) -> npt.NDArray[np.int16]:
    """Stored label (0...255) -> class, ignore index, or -1 where it may not occur."""
    table = np.full(256, -1, np.int16)
    table[:num_classes] = np.arange(num_classes)
    table[ignore_index] = ignore_index
    for stored, label in label_map.items():
        if not 0 <= int(stored) <= 255 or not (0 <= label < num_classes or label == ignore_index):
            raise UserError(
                f"data.reader.label_map: {stored}: {label} does not map one of 0 to 255 to a class or data.ignore_index"
            )
        table[int(stored)] = label
    return table


def require(split: str, splits: Sequence[str], name: str) -> None:
    """Raise a UserError unless the data set has the split."""
    if split not in splits:
        raise UserError(f"data: {name} has no split {split!r}; {nearest(split, splits)}")
