"""Kinds of pixels: by distance from the true boundary, by the size of their region, by when the scan meets them."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Labels = npt.NDArray[np.integer[Any]]
Bands = npt.NDArray[np.intp]
DISTANCES = (2, 5, 10, 20)  # pixels: upper ends of the bands but the last
SIZES = (0.001, 0.01, 0.1)  # of the image: likewise
TENTHS = 10


class Stratum(NamedTuple):
    """A way to sort an image's pixels into bands."""

    title: str
    bands: tuple[str, ...]
    assign: Callable[[Labels], Bands]  # truth [H, W] to the number of each pixel's band [H, W]


def boundary_distance() -> Stratum:
    """Distance from the nearest pixel of another label, void included: the edges of what was not labelled count."""
    names = [
        f"≤ {DISTANCES[0]} px",
        *(f"{low + 1} to {high} px" for low, high in itertools.pairwise(DISTANCES)),
    ]

    def assign(truth: Labels) -> Bands:
        edge = np.zeros(truth.shape, bool)
        for axis in (0, 1):
            differs = np.diff(truth.astype(np.int16), axis=axis) != 0
            before, after = ([slice(None)] * 2 for _ in range(2))
            before[axis], after[axis] = slice(None, -1), slice(1, None)
            edge[tuple(before)] |= differs
            edge[tuple(after)] |= differs
        if not edge.any():
            return np.full(truth.shape, len(DISTANCES))
        return np.asarray(np.searchsorted(DISTANCES, ndimage.distance_transform_edt(~edge) + 1))

    return Stratum("Distance from the true boundary", (*names, f"> {DISTANCES[-1]} px"), assign)


def region_size() -> Stratum:
    """Size of the connected region of one true class that a pixel lies in, as a share of the image."""
    shares = [f"{100 * size:g}" for size in SIZES]
    names = [f"< {shares[0]} %", *(f"{low} to {high} %" for low, high in itertools.pairwise(shares))]

    def assign(truth: Labels) -> Bands:
        sizes = np.zeros(truth.shape)
        for label in np.unique(truth):
            regions, _ = ndimage.label(truth == label)
            inside = regions > 0
            sizes[inside] = np.bincount(regions.ravel())[regions[inside]]
        return np.searchsorted(SIZES, sizes / truth.size, side="right")

    return Stratum("Size of the region, of the image", (*names, f"≥ {shares[-1]} %"), assign)


def scan_position(order: str, sequences: Labels, steps: Labels, cover: Sequence[float]) -> Stratum:
    """Tenth of its sequence in which the scan meets a pixel.

    Args:
        order: its name.
        sequences: number of each map position's sequence [h, w].
        steps: of each position in its sequence [h, w].
        cover: part of the map, down and across, that the image fills.
    """
    lengths = np.bincount(sequences.ravel())[sequences]
    tenths = steps * TENTHS // lengths
    names = tuple(f"{10 * tenth} to {10 * tenth + 10} %" for tenth in range(TENTHS))

    def assign(truth: Labels) -> Bands:
        rows, columns = (
            (np.arange(pixels) / pixels * part * cells).astype(int)
            for pixels, part, cells in zip(truth.shape, cover, tenths.shape, strict=True)
        )
        return np.asarray(tenths[np.ix_(rows, columns)])

    return Stratum(f"Way along the scan ({order})", names, assign)
