"""Labelled images on disk, described in YAML: where images and masks lie, which belong to a split, what labels mean."""

import hashlib
import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from rich.progress import track

from segmentation.errors import UserError, nearest

log = logging.getLogger(__name__)
Pixels = npt.NDArray[np.uint8]


class Sample(NamedTuple):
    """An image and what its pixels are."""

    image: Pixels  # [H, W, 3], RGB
    mask: Pixels  # [H, W], class indices or the ignore index
    name: str


class Reader(Protocol):
    """One split of a data set."""

    names: list[str]  # of the samples: unique, fit for file names

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def check(self, seen: set[int] | None = None) -> None:
        """Raise a UserError that names the first sample that cannot be used, and warn of what looks wrong in all.

        Where every sample has been read already, `seen` are the labels in them.
        """

    def files_hash(self) -> str:
        """A digest of which samples these are, wherever they lie."""

    def fingerprint(self) -> str | None:
        """A digest of all that the samples depend on, for a cache of them; None where reading them is cheap."""


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


def read_image(path: Path) -> Pixels:
    """An image file as RGB [H, W, 3], turned upright as its EXIF tag says: so annotation tools show it."""
    image = ImageOps.exif_transpose(_open(path))
    if image.mode[0] in "IF":  # Pillow would clip them to white
        raise UserError(f"{path}: more than 8 bits a pixel (mode {image.mode}); convert it to 8 bits a channel")
    return np.array(image.convert("RGB"))


def read_mask(path: Path) -> Pixels:
    """A mask file's stored labels [H, W], the grey values or a palette's indices, turned as its own EXIF tag says."""
    mask = ImageOps.exif_transpose(_open(path))
    if mask.mode not in ("L", "P", "1"):
        raise UserError(f"{path}: a mask of mode {mask.mode}; give a picture of labels, grey (L) or with a palette (P)")
    return np.asarray(mask, np.uint8)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:
        raise UserError(f"{path}: cannot be read as an image ({' '.join(str(error).split())[:100]})") from error


def require(split: str, splits: Sequence[str], name: str) -> None:
    """Raise a UserError unless the data set has the split."""
    if split not in splits:
        raise UserError(f"data: {name} has no split {split!r}; {nearest(split, splits)}")
