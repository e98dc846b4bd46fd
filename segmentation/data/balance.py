"""Class-balanced sampling: how often each training sample is drawn, by the classes in it."""

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor

from segmentation.data.cache import read_all
from segmentation.data.cached import CachedReader
from segmentation.data.samples import Reader, count_labels
from segmentation.errors import UserError


def check_strength(strength: float) -> None:
    """Raise a UserError unless `data.balance` can be this."""
    if not 0 <= strength <= 1:
        raise UserError(f"data.balance={strength}: give 0 (every image alike) to 1 (every class alike)")


def balanced_shares(reader: Reader, strength: float, num_classes: int, ignore_index: int, *, quiet: bool) -> Tensor:
    """As `shares` of the samples of a reader, all of which are read for it where no cache knows what is in them;
    `quiet` shows no progress bar.
    """
    if isinstance(reader, CachedReader):
        pixels = reader.pixels()
    else:
        samples = track(read_all(reader), "counting classes", len(reader), transient=True, disable=quiet)
        pixels = np.stack([count_labels(sample.mask) for sample in samples])
    pixels[:, ignore_index] = 0
    return torch.from_numpy(shares(pixels[:, :num_classes], strength))


def shares(pixels: npt.NDArray[np.int64], strength: float) -> npt.NDArray[np.float64]:
    """The share of the draws that each sample gets.

    At strength 1 it is as if for each draw first a class were chosen, all alike, and then one of its pixels, whose
    image is taken (by class and then image: Shen et al., 2016); at 0 all samples are drawn alike.

    Args:
        pixels: of each class in each sample, [samples, classes].
        strength: 0 to 1.

    Returns:
        Float64 [samples], in all 1.
    """
    alike = np.full(len(pixels), 1 / len(pixels))
    totals = pixels.sum(0)
    if not totals.any():
        return alike
    by_class = (pixels[:, totals > 0] / totals[totals > 0]).mean(1)
    mixed: npt.NDArray[np.float64] = (1 - strength) * alike + strength * by_class
    return mixed
