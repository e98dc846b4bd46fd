"""Labelled images on disk, described in YAML: where images and masks lie, which belong to a split, what masks store."""

import copy
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Self

from segmentation.data.checks import check_samples
from segmentation.data.files import is_text, read_list, require_file
from segmentation.data.images import White, read_with_peak
from segmentation.data.masks import MASKS, StoredLabels
from segmentation.data.patterns import Pattern, inside
from segmentation.data.samples import Sample
from segmentation.errors import UserError, nearest

Pair = tuple[Path, Path]


class FileReader:
    """Samples from image and mask files below `root`.

    A split's list holds a line for each sample: a name, for the `{name}` of the patterns, or the paths of image and
    mask. Further columns after a name, and lines that begin with `#`, mean nothing. Without a list, the samples are
    whatever files fit the image's pattern.

    Args:
        root: the data set's folder.
        split: stands for `{split}` in the patterns.
        listing: the split's list file below `root`, or None.
        image: pattern of the image's path, such as `{split}/{name}.png`; `*` stands for anything.
        mask: pattern of the mask's path.
        num_classes: labels are 0 ... num_classes - 1.
        ignore_index: label of void pixels.
        channels: of an image, see `read_image`.
        white: likewise.
        folders: what stands for `{split}` instead, by split.
        masks: what masks store: `labels` or `colours`.
        stored: arguments of that, see `StoredLabels` and `ColouredLabels`.
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
        channels: int = 3,
        white: White = None,
        folders: Mapping[str, str] | None = None,
        masks: str = "labels",
        **stored: Any,
    ) -> None:
        self.root = existing(root)
        self.split, self.num_classes = split, num_classes
        self.channels, self.white = channels, white
        folder = (folders or {}).get(split, split)
        self.image, self.mask = Pattern(self.root, image, folder), Pattern(self.root, mask, folder)
        if masks not in MASKS:
            raise UserError(f"data.reader.masks={masks}: no such choice; {nearest(masks, MASKS)}")
        self.labels: StoredLabels = MASKS[masks](num_classes=num_classes, ignore_index=ignore_index, **stored)
        found = list(self._listed(listing) if listing else self._found())
        self.paths = dict(found)
        self.names = list(self.paths)
        for name, (path, _) in found:
            if self.paths[name][0] != path:
                raise UserError(f"{path} and {self.paths[name][0]}: both are called {name!r}; names must be unique")
        if not self.names:
            place = listing or self.image.text.replace("{name}", "*")
            raise UserError(f"{self.root / place}: no sample of the split {split!r}; check data.root and data.splits")

    @classmethod
    def exists(
        cls,
        *,
        root: str | None,
        split: str,
        listing: str | None,
        image: str,
        folders: Mapping[str, str] | None = None,
        **_: Any,
    ) -> bool:
        """Whether the data set has this split: a list, or without lists any file that fits the pattern, says so."""
        if not isinstance(listing, str | None):
            raise UserError(f"data.splits.{split}={listing}: give the path of a list file below data.root, or null")
        if root is None or not Path(root).is_dir():
            return True  # unknown yet: reading it will say what is wrong
        if listing is not None:
            return (Path(root) / listing).is_file()
        return bool(Pattern(Path(root), image, (folders or {}).get(split, split)).find())

    def _listed(self, listing: str) -> Iterator[tuple[str, Pair]]:
        file = self.root / listing
        if not file.is_file():
            raise UserError(
                f"{file}: the list of the split {self.split!r} is not there; check data.root and data.splits"
            )
        for number, line in enumerate(read_list(file), 1):
            if line.strip() and not line.startswith("#"):
                yield self._line(line.strip(), file, number)

    def _line(self, text: str, file: Path, number: int) -> tuple[str, Pair]:
        """The sample that a line of a list names."""
        if not is_text(text.replace("\t", "")):
            raise UserError(f"{file}, line {number}: {text!r} holds control characters; mend it")
        words = text.split("\t" if "\t" in text else None)
        for word in words:
            if ".." in PurePosixPath(word).parts:
                inside(self.root, word, file)
        name = text if len(words) == 1 or self.image.fill(text).is_file() else None  # names may have spaces
        if name is None and len(words) == 2:
            image, mask = (inside(self.root, word, file) for word in words)
            if image.is_file() or not self.image.fill(words[0]).is_file():
                return self.image.name(image.relative_to(self.root).as_posix()), (image, mask)
        if name is None and self.image.fill(words[0]).is_file():
            name = words[0]
        if name is None:
            raise UserError(f"{file}, line {number}: neither a name nor the paths of image and mask")
        return name, (self.image.fill(name), self.mask.fill(name))

    def _found(self) -> Iterator[tuple[str, Pair]]:
        for name, path in self.image.find():
            yield name, (path, self.mask.fill(name))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        image_path, mask_path = self.paths[name]
        require_file(mask_path, f", the mask of {image_path}")
        image, peak = read_with_peak(image_path, self.channels, self.white)
        mask = self.labels(mask_path)
        if image.shape[:2] != mask.shape:
            (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
            raise UserError(
                f"{mask_path}: {mask_width}x{mask_height}, but its image is {width}x{height}; draw it on this image"
                + " as its EXIF turns it" * ((mask_width, mask_height) == (height, width))
            )
        return Sample(image, mask, name, peak)

    def image_file(self, index: int) -> Path | None:
        """Where the image of a sample lies."""
        return self.paths[self.names[index]][0]

    def mask_file(self, index: int) -> Path | None:
        """Where the mask of a sample lies."""
        return self.paths[self.names[index]][1]

    def select(self, indices: Sequence[int]) -> Self:
        """Some of the samples."""
        selected = copy.copy(self)
        selected.names = [self.names[index] for index in indices]
        selected.paths = {name: self.paths[name] for name in selected.names}
        return selected

    def check(self, seen: set[int] | None = None) -> None:
        """As `check_samples`."""
        check_samples(self, self.split, self.num_classes, seen)

    def files_hash(self) -> str:
        """SHA-256 over the image paths relative to `root`."""
        paths = (image.relative_to(self.root).as_posix() for image, _ in self.paths.values())
        return hashlib.sha256("\n".join(paths).encode()).hexdigest()

    def fingerprint(self) -> str:
        """SHA-256 over the paths, sizes and times of change of all files, and over what is made of them."""
        for image, mask in self.paths.values():
            require_file(mask, f", the mask of {image}")
        made = self.labels.fingerprint() + repr((self.channels, self.white)).encode()
        return fingerprint(itertools.chain.from_iterable(self.paths.values()), made)


def existing(root: str | None) -> Path:
    """The data set's folder, or a UserError."""
    if root is None:
        raise UserError("data.root: not set; give the folder of the data set, data.root=/path")
    if not Path(root).is_dir():
        raise UserError(f"data.root={root}: {'a file and not a' if Path(root).exists() else 'no such'} folder")
    return Path(root)


def fingerprint(files: Iterable[Path], rest: bytes) -> str:
    """SHA-256 over the paths, sizes and times of change of files, and over what else their samples depend on."""
    digest = hashlib.sha256(rest)
    for path in files:
        require_file(path)
        stat = path.stat()
        digest.update(os.fsencode(path.absolute()) + f" {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
