"""Image files that Pillow has no mode for: several bands, 16 bits in colour, arrays of NumPy."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from segmentation.errors import UserError

PNG, TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
DEEP_COLOURS = {2: (2, 1, 0), 4: (0, 3), 6: (2, 1, 0, 3)}  # a PNG's colour type: its channels as OpenCV orders them
ORIENTATION, BITS, PHOTOMETRIC, SAMPLES, PLANAR, EXTRA = 274, 258, 262, 277, 284, 338  # tags of TIFF


class Bands(NamedTuple):
    """What a file stores, upright."""

    values: npt.NDArray[Any]  # [H, W, C], of 8 or 16 bits
    alpha: bool  # whether the last channel says how opaque the others are


def read_bands(path: Path, channels: int) -> Bands | None:
    """What such a file stores, or None for one that Pillow reads as it is.

    Args:
        path: of the file.
        channels: wanted: of files that Pillow makes RGB of, it takes the RGB.

    Raises:
        UserError: for a file that cannot be read, or of numbers that are not 8 or 16 bits.
    """
    if path.suffix.lower() == ".npy":
        return Bands(read_array(path), alpha=False)
    try:
        with path.open("rb") as file:
            head = file.read(26)
    except OSError:
        return None  # Pillow will say why
    if head.startswith(TIFF):
        return read_tiff(path, channels)
    if head.startswith(PNG) and len(head) == 26 and head[24] == 16 and head[25] in DEEP_COLOURS:
        return by_opencv(path, DEEP_COLOURS[head[25]])
    return None


def read_array(path: Path) -> npt.NDArray[Any]:
    """An array [H, W] or [H, W, C] from a .npy file, as [H, W, C]."""
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as an array ({' '.join(str(error).split())[:100]})") from error
    if stored.ndim not in (2, 3) or 0 in stored.shape:
        raise UserError(f"{path}: an array {list(stored.shape)}; give [height, width, channels]")
    check_pixels(stored.shape, path)
    return as_unsigned(np.array(stored if stored.ndim == 3 else stored[..., None]), path)


def read_tiff(path: Path, channels: int) -> Bands | None:
    """A TIFF, unless Pillow reads it right: bands that it does not expect it leaves out in silence."""
    try:
        with Image.open(path) as image:
            tags: dict[int, Any] = dict(image.tag_v2)  # type: ignore[attr-defined]  # a TIFF's
            known = len(image.getbands())
    except Image.DecompressionBombError:
        return None
    except Exception:  # of many classes, for a kind of TIFF that it does not know
        return by_tifffile(path)
    samples, bits = tags.get(SAMPLES, 1), max(tags.get(BITS, (1,)))
    if samples == 1 or (channels == 3 and known >= 3 and bits <= 8):
        return None
    if channels == 3 and samples in (3, 4) and bits == 16 and tags.get(PLANAR, 1) == tags.get(ORIENTATION, 1) == 1:
        return by_opencv(path, (2, 1, 0, 3)[:samples])
    return by_tifffile(path)


def by_opencv(path: Path, order: tuple[int, ...]) -> Bands | None:
    """A PNG or TIFF of 16 bits a channel, of which Pillow keeps 8; `order` picks its channels out of OpenCV's."""
    try:
        with Image.open(path) as image:
            orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # more pixels than are allowed, or torn: Pillow will say it again
        return None
    try:
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        found = None
    if found is None:
        raise UserError(f"{path}: cannot be read as an image")
    return Bands(turn(np.asarray(found)[..., list(order)], orientation), alpha=len(order) in (2, 4))


def by_tifffile(path: Path) -> Bands:
    """The first image of a TIFF, with all its bands."""
    try:
        import tifffile
    except ImportError:
        raise UserError(
            f"{path}: a TIFF that Pillow does not know; for several bands pip install tifffile imagecodecs"
        ) from None
    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            check_pixels((page.imagelength, page.imagewidth, page.samplesperpixel, page.imagedepth), path)
            values = page.asarray()
            tags = {code: page.tags[code].value for code in (ORIENTATION, EXTRA) if code in page.tags}
            colour, samples = int(page.photometric) == 2, int(page.samplesperpixel)
    except UserError:
        raise
    except Exception as error:  # of many classes, for whatever is wrong with it
        raise UserError(f"{path}: cannot be read as an image ({' '.join(str(error).split())[:100]})") from error
    if values.ndim == 2:
        values = values[..., None]
    elif values.shape[0] == samples and values.shape[-1] != samples:
        values = np.moveaxis(values, 0, -1)  # stored one band after the other
    alpha = samples == 4 if colour else samples == 2 and tags.get(EXTRA, (0,))[0] in (1, 2)
    return Bands(turn(as_unsigned(values, path), tags.get(ORIENTATION, 1)), alpha)


def as_unsigned(values: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """Whole numbers as bytes, where they are stored as such, or else as 16 bits without sign."""
    if values.dtype.kind not in "iu":
        kind = "floating-point numbers" if values.dtype.kind == "f" else f"the type {values.dtype}"
        raise UserError(f"{path}: an image of {kind}; convert it to 8 or 16 bits a channel")
    if values.dtype != np.uint8 and (values.min() < 0 or values.max() > 0xFFFF):
        raise UserError(f"{path}: more than 16 bits a pixel; convert it to 8 or 16 bits a channel")
    return values if values.dtype == np.uint8 else values.astype(np.uint16)


def check_pixels(shape: tuple[int, ...], path: Path) -> None:
    """Raise a UserError for more pixels than Pillow would allow, or more values than such an image of four channels."""
    pixels, bands = shape[0] * shape[1], math.prod(shape[2:])
    if Image.MAX_IMAGE_PIXELS and max(pixels, pixels * bands / 4) > 2 * Image.MAX_IMAGE_PIXELS:
        raise UserError(f"{path}: more pixels than are allowed; predict takes larger images by max_pixels=...")


def turn(values: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Pixels [H, W, C] turned upright as an EXIF orientation, 1 to 8, says."""
    if orientation > 4:
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values)
