"""Image files as arrays."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from segmentation.data.files import CURE, require_file
from segmentation.errors import UserError

Pixels = npt.NDArray[np.uint8]
ANIMATIONS = {"GIF", "PNG", "WEBP"}  # other formats keep pages or thumbnails behind the first picture
LOSSY = {"JPEG", "MPO"}


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


def open_image(path: Path, *, exact: bool = False) -> Image.Image:
    """An image file, decoded and turned upright.

    Args:
        path: of the file.
        exact: whether its values must be those that were stored, as a mask's must.

    Raises:
        UserError: if it is not there, cannot be decoded, or is not one picture.
    """
    require_file(path)
    try:
        with Image.open(path) as image:
            check_picture(image, path, exact)
            image.load()
            return upright(image)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(
            f"{path}: more pixels than are allowed; make it smaller (predict takes larger images by max_pixels=...)"
        ) from None
    except Exception as error:
        why = " ".join(str(error).replace(str(path), "it").split())[:100]
        raise UserError(f"{path}: cannot be read as an image ({why}); {CURE}") from error


def check_picture(image: Image.Image, path: Path, exact: bool) -> None:
    """Raise a UserError for what Pillow would open, but make something else of than was meant."""
    frames = getattr(image, "n_frames", 1) if image.format in ANIMATIONS else 1
    if frames > 1:
        raise UserError(f"{path}: an animation of {frames} frames; extract the one that is meant")
    if exact and image.format in LOSSY:
        raise UserError(f"{path}: a mask as JPEG, which changes labels along every edge; make it again as PNG")


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF tag says; as it is stored where the EXIF is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image
