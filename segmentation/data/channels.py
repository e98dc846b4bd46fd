"""How many channels a data set's images have, and what else is said of them: stored white, those shown, statistics."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segmentation.data.images import Pixels
from segmentation.data.samples import Reader
from segmentation.errors import UserError

MOST = 512  # channels, of OpenCV's images


def check_channels(config: Mapping[str, Any]) -> None:
    """Raise a UserError unless what `data` says of channels can be; of `DataConfig`, as plain containers."""
    channels = config["channels"]
    if not 1 <= channels <= MOST:
        raise UserError(f"data.channels={channels}: give 1 to {MOST}")
    check_white("data.white", config["white"], channels)
    for key in ("mean", "std"):
        values = config[key]
        if values is None:
            continue
        if len(values) != channels or not all(0 <= value <= 1 for value in values) or (key == "std" and 0 in values):
            raise UserError(f"data.{key}={values}: give {channels} numbers, of values in 0...1 (not 0...255), or null")
    shown = config["shown"]
    if shown is not None and (len(shown) not in (1, 3) or not all(0 <= band < channels for band in shown)):
        raise UserError(f"data.shown={shown}: give three channels of 0 to {channels - 1}, or one, or null")


def check_white(key: str, white: Any, channels: int) -> None:
    """Raise a UserError unless this is None, a value of 16 bits, or one for each channel."""
    values = white if isinstance(white, list) else [white]
    whole = all(type(value) is int and 0 < value <= 0xFFFF for value in values)
    if white is not None and (not whole or (isinstance(white, list) and len(values) != channels)):
        raise UserError(f"{key}={white}: give the stored value that means white, 1 to 65535, or {channels} of them")


def check_form(reader: Reader, channels: int) -> None:
    """Raise a UserError unless a reader's images have so many channels; a reader from elsewhere may not care."""
    found = reader[0].image.shape[2]
    if found != channels:
        raise UserError(f"data.reader: its images have {found} channels; set data.channels={found}")


def visible(image: Pixels, shown: Sequence[int] | None = None) -> Pixels:
    """An image [H, W, C] as RGB [H, W, 3], for the eye.

    Args:
        image: any image.
        shown: the channels that become red, green and blue, or the one that becomes grey; None: the first three, or the
            first where there are fewer.
    """
    if shown is None:
        shown = [0, 1, 2] if image.shape[2] >= 3 else [0]
    if list(shown) == [0, 1, 2] and image.shape[2] == 3:
        return image
    picked = image[..., list(shown)]
    return np.ascontiguousarray(np.broadcast_to(picked, (*image.shape[:2], 3)))
