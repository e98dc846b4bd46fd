"""Image files as arrays."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from segmentation.data.bands import Bands, as_unsigned, read_bands
from segmentation.data.files import CURE, require_file
from segmentation.errors import UserError
from segmentation.faults import describe

Pixels = npt.NDArray[np.uint8]
# Whatever a file is called, Pillow goes by its content; of some formats (EPS) it would start another program.
FORMATS = ("PNG", "JPEG", "JPEG2000", "BMP", "TIFF", "WEBP", "GIF", "PPM", "TGA")
White = int | Sequence[int] | None
MODES = {"1": "L", "L": "L", "LA": "LA", "RGBA": "RGBA"}  # Pillow's, as which they are read; all others are RGB
ANIMATIONS = {"GIF", "PNG", "WEBP"}  # other formats keep pages or thumbnails behind the first picture
LOSSY = {"JPEG", "MPO"}


class ChannelError(UserError):
    """An image of other channels than are wanted; `found` is how many it has."""

    found: int


def read_image(path: Path, channels: int = 3, white: White = None) -> Pixels:
    """An image file as [H, W, channels], turned upright as its EXIF tag says: so annotation tools show it.

    With 3 channels it is RGB, which grey values become as well. An alpha channel is left out where it is one too many.

    Args:
        path: of a file that Pillow reads, a TIFF of any number of bands, or a .npy array [H, W] or [H, W, C].
        channels: how many.
        white: the stored value, or that of each channel, that becomes 255, of files of 16 bits; None: 65535. Those of 8
            bits stay as they are.

    Raises:
        UserError: for a file that cannot be read, or has other channels.
    """
    return read_with_peak(path, channels, white)[0]


def read_with_peak(path: Path, channels: int, white: White) -> tuple[Pixels, int | None]:
    """As `read_image`, with the largest value that the file stores, where it is of 16 bits and `white` is None."""
    require_file(path)  # a pipe would never end
    found = read_bands(path, channels) or by_pillow(path, channels)
    if found.values.dtype == np.uint8:
        return fit(found, channels, path), None
    if np.ndim(white or 0):  # of each channel, so that they must be there first
        return to_bytes(fit(found, channels, path), white), None
    peak = int(found.values[..., : -1 if found.alpha else None].max()) if white is None else None
    return fit(Bands(to_bytes(found.values, white), found.alpha), channels, path), peak


def read_deep(path: Path, channels: int = 3) -> npt.NDArray[Any] | None:
    """What a file of 16 bits stores [H, W, channels], and None for one of 8 bits; otherwise as `read_image`."""
    found = read_bands(path, channels)
    if found is None:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode[0] != "I":  # 8 bits, which need not be decoded to know it
                return None
        found = by_pillow(path, channels)
    return None if found.values.dtype == np.uint8 else fit(found, channels, path)


def by_pillow(path: Path, channels: int) -> Bands:
    """What Pillow makes of a file."""
    image = open_image(path)
    if image.mode == "F":
        raise UserError(f"{path}: an image of floating-point numbers; convert it to 8 or 16 bits a channel")
    if image.mode[0] == "I":  # Pillow would clip them to white
        return Bands(as_unsigned(np.asarray(image)[..., None], path), alpha=False)
    mode = "RGB" if channels == 3 else MODES.get(image.mode, "RGB")
    values = np.array(image.convert(mode))
    return Bands(values if values.ndim == 3 else values[..., None], alpha=mode in ("LA", "RGBA"))


def fit(found: Bands, channels: int, path: Path) -> npt.NDArray[Any]:
    """The channels asked for, or a UserError."""
    values, count = found.values, found.values.shape[2]
    if count == channels:
        return values
    if found.alpha and count - 1 in (1, channels):
        values = values[..., :-1]
    if channels == 3 and values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    if values.shape[2] != channels:
        error = ChannelError(
            f"{path}: {count} channel{'s' * (count > 1)}, but data.channels={channels}; convert it, or train with "
            f"data.channels={count}"
        )
        error.found = count
        raise error
    return np.ascontiguousarray(values)


def to_bytes(deep: npt.NDArray[Any], white: White) -> Pixels:
    """Values of 16 bits as bytes, so that those from 0 to `white` fill the whole range; larger ones become 255."""
    if white is None:
        return (deep >> 8).astype(np.uint8)
    scaled = deep.astype(np.uint32) * 256 // (np.asarray(white, np.uint32) + 1)
    return np.asarray(scaled.clip(max=255), np.uint8)


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
        with Image.open(path, formats=FORMATS) as image:
            check_picture(image, path, exact)
            image.load()
            return upright(image)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(
            f"{path}: more pixels than are allowed; make it smaller (predict takes larger images by max_pixels=...)"
        ) from None
    except FileNotFoundError as error:
        raise UserError(describe(error) or f"{path}: no such file") from None
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
