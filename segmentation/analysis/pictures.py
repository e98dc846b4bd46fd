"""Masks as pictures: class colours, overlays, and where one prediction is right and another wrong."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from segmentation.whole import remove

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer[Any]]
Colours = Sequence[Sequence[int]]

VOID = (0, 0, 0)
REPAIRED, BROKEN, UNCHANGED = (46, 160, 67), (207, 34, 46), (235, 237, 240)
OPACITY = 0.55  # of the classes' colours over the image


def palette(colours: Colours) -> Pixels:
    """Label -> RGB for all 256 labels; those that are no class are black."""
    table = np.full((256, 3), VOID, np.uint8)
    table[: len(colours)] = np.asarray(colours, np.uint8)
    return table


def colourise(mask: Labels, colours: Colours) -> Pixels:
    """Labels [H, W] as RGB [H, W, 3], void in black."""
    return palette(colours)[mask]


def overlay(image: Pixels, mask: Labels, colours: Colours) -> Pixels:
    """The image [H, W, 3] with the classes' colours over it."""
    blended = cv2.addWeighted(image, 1 - OPACITY, colourise(mask, colours), OPACITY, 0)
    return np.asarray(blended, np.uint8)


def changes(truth: Labels, before: Labels, after: Labels, ignore_index: int) -> Pixels:
    """RGB [H, W, 3]: green where only `after` is right, red where only `before` was, black where the truth is void."""
    picture = np.full((*truth.shape, 3), UNCHANGED, np.uint8)
    picture[(before != truth) & (after == truth)] = REPAIRED
    picture[(before == truth) & (after != truth)] = BROKEN
    picture[truth == ignore_index] = VOID
    return picture


def read_mask(path: Path) -> Pixels:
    """The labels [H, W] of a mask that `save_mask` wrote.

    Raises:
        OSError: for what is none, or unpacks to more than an image may.
    """
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.mode not in ("L", "P"):
                raise OSError(f"{path}: not a mask of labels")
            return np.asarray(picture, np.uint8)
    except (Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise OSError(f"{path}: not a mask of labels ({error})") from error


def save_mask(path: Path, mask: Pixels, colours: Colours) -> None:
    """Write labels [H, W] as a palette PNG: class indices to a program, colours to an eye."""
    picture = Image.fromarray(mask)
    picture.putpalette(palette(colours).flatten().tolist())
    save_picture(path, picture)


def save_image(path: Path, image: Pixels) -> None:
    """Write RGB [H, W, 3] as a PNG."""
    save_picture(path, Image.fromarray(image))


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a PNG whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own, since a longer one than the picture's may be longer than a file system takes.
    partial = path.with_name(f"{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.partial")
    try:
        picture.save(partial, format="PNG")
        partial.replace(path)
    finally:
        remove(partial)
