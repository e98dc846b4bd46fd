"""Image and mask files as arrays."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from segmentation.errors import UserError

Pixels = npt.NDArray[np.uint8]


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
