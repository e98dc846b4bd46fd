"""Image files as arrays."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from segmentation.errors import UserError

Pixels = npt.NDArray[np.uint8]
# Whatever a file is called, Pillow goes by its content; of some formats (EPS) it would start another program.
FORMATS = ("PNG", "JPEG", "MPO", "JPEG2000", "BMP", "TIFF", "WEBP", "GIF", "PPM", "TGA")


def read_image(path: Path) -> Pixels:
    """An image file as RGB [H, W, 3], turned upright as its EXIF tag says: so annotation tools show it."""
    image = open_image(path)
    if image.mode == "F":
        raise UserError(f"{path}: an image of floating-point numbers; convert it to 8 or 16 bits a channel")
    if image.mode[0] == "I":  # Pillow would clip them to white
        return np.repeat(to_bytes(np.asarray(image), path)[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))


def to_bytes(deep: npt.NDArray[Any], path: Path) -> Pixels:
    """Grey values of 16 bits as bytes: the whole range of the type becomes the whole range of a byte."""
    if deep.min() < 0 or deep.max() > 0xFFFF:
        raise UserError(f"{path}: more than 16 bits a pixel; convert it to 8 or 16 bits a channel")
    return (deep >> 8).astype(np.uint8)


def allow_pixels(count: int) -> None:
    """Let images have so many pixels from now on, in this process."""
    Image.MAX_IMAGE_PIXELS = count // 2  # Pillow warns above, and refuses above twice as many
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refusing is enough


def open_image(path: Path) -> Image.Image:
    """An image file, decoded and turned upright.

    Raises:
        UserError: if it is not there or cannot be decoded.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except Image.DecompressionBombError:
        raise UserError(
            f"{path}: more pixels than are allowed; predict takes larger images by max_pixels=..."
        ) from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:
        raise UserError(f"{path}: cannot be read as an image ({' '.join(str(error).split())[:100]})") from error
