"""A small data set to be spoilt, and what is expected of those who read it then."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]
HEIGHT, WIDTH = 10, 14


class Reads(NamedTuple):
    """The odd sample is read, with these pixels; where None, with those that it had before it was spoilt."""

    image: Array | None = None
    mask: Array | None = None
    name: str = "odd"
    within: int = 0  # grey values that a lossy format may be off
    words: Mapping[str, Any] = MappingProxyType({})  # keys of `data` that this takes


class Refused(NamedTuple):
    """One line holds all of this: the file, what is wrong with it, and the cure."""

    says: tuple[str, ...]
    words: Mapping[str, Any] = MappingProxyType({})


class Place:
    """The data set and, in its training split, the sample to be spoilt.

    Attributes:
        root: its folder.
        image: of the odd sample.
        mask: likewise.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        for number, name in enumerate(("train/{}/good", "train/{}/odd", "val/{}/other")):
            save(root / f"{name.format('images')}.png", picture(number))
            save(root / f"{name.format('masks')}.png", labels())
        self.image, self.mask = root / "train/images/odd.png", root / "train/masks/odd.png"

    def rename(self, name: str) -> None:
        """Give image and mask of the odd sample another name."""
        for attribute in ("image", "mask"):
            path = getattr(self, attribute)
            setattr(self, attribute, path.rename(path.with_name(name)))

    def list(self, content: bytes) -> dict[str, Any]:
        """Write the training split's list, and give the keys that make it one."""
        (self.root / "train.txt").write_bytes(content)
        return {"splits": {"train": "train.txt", "val": None}}


def picture(seed: int = 1) -> Array:
    """RGB that changes slowly, so that lossy formats keep it."""
    grey = np.linspace(30, 220, WIDTH) + np.linspace(0, 30, HEIGHT)[:, None]
    return np.stack([grey, 250 - grey, np.full_like(grey, 40 + 60 * seed)], 2).astype(np.uint8)


def labels() -> Array:
    """Classes 0, 1 and 2, and a row of void."""
    found = np.random.default_rng(0).integers(0, 3, (HEIGHT, WIDTH)).astype(np.uint8)
    found[0] = 255
    return found


def save(path: Path, array: Array, **how: Any) -> None:
    """Write an array as an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **how)


def png(path: Path, header: tuple[int, int, int, int, int], rows: bytes, *chunks: bytes) -> None:
    """Write a PNG as Pillow would not.

    Args:
        path: of the file.
        header: width, height, bits a sample, colour type (0 grey, 2 RGB, 3 palette, 4 grey and alpha), interlacing.
        rows: of samples, each after its filter's byte.
        chunks: before the pixels, each its name and content.
    """
    width, height, bits, kind, interlaced = header
    first = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced)
    whole = b"\x89PNG\r\n\x1a\n"
    for chunk in (first, *chunks, b"IDAT" + zlib.compress(rows), b"IEND"):
        whole += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(whole)


def filtered(array: Array) -> bytes:
    """The rows of an array as a PNG holds them."""
    return b"".join(b"\0" + row.tobytes() for row in array)
