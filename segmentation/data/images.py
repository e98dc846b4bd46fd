"""Image files as arrays."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from segmentation.errors import UserError

Pixels = npt.NDArray[np.uint8]


def read_image(path: Path) -> Pixels:
    """An image file as RGB [H, W, 3], turned upright as its EXIF tag says: so annotation tools show it."""
    image = open_image(path)
    if image.mode[0] in "IF":  # Pillow would clip them to white
        raise UserError(f"{path}: more than 8 bits a pixel (mode {image.mode}); convert it to 8 bits a channel")
    return np.array(image.convert("RGB"))


def open_image(path: Path) -> Image.Image:
    """An image file, decoded and turned upright.

    Raises:
        UserError: if it is not there or cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:
        raise UserError(f"{path}: cannot be read as an image ({' '.join(str(error).split())[:100]})") from error
