"""A sheet of samples with their masks: wrong labels are seen sooner than read."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from segmentation.analysis.pictures import colourise
from segmentation.analysis.plots import words
from segmentation.data.samples import Sample

COLUMNS = 3  # samples in a row, each an image and its mask
CELL = 2.1  # inches that an image is wide
SQUARE = 8  # pixels of the checks that void is drawn with
LISTED = 30  # classes in the legend, the most frequent ones
Pixels = npt.NDArray[np.uint8]


def draw_mask(mask: Pixels, colours: Sequence[Sequence[int]], ignore_index: int) -> Pixels:
    """Labels [H, W] as RGB, void as grey checks, so that no class can be taken for it."""
    rows, columns = np.indices(mask.shape) // max(1, SQUARE * max(mask.shape) // 480)
    checks = np.where((rows + columns) % 2, 150, 215).astype(np.uint8)[..., None].repeat(3, axis=2)
    return np.where((mask == ignore_index)[..., None], checks, colourise(mask, colours)).astype(np.uint8)


def contact_sheet(
    samples: Sequence[tuple[str, Sample]],
    classes: Sequence[str],
    colours: Sequence[Sequence[int]],
    ignore_index: int,
    shares: Sequence[float],
) -> Figure:
    """Images beside their masks, with the classes' colours and shares.

    Args:
        samples: with their splits, their images as RGB.
        classes: their names.
        colours: theirs, RGB.
        ignore_index: label of void pixels.
        shares: of each class in the labelled pixels of the training.
    """
    rows = -(-len(samples) // COLUMNS)
    height, width = samples[0][1].mask.shape
    cell = CELL * min(1.6, height / width) + 0.25
    order = sorted(range(len(classes)), key=lambda label: -shares[label])[:LISTED]
    legend = -(-(len(order) + 1) // 6)
    figure = Figure(figsize=(2 * COLUMNS * CELL, rows * cell + 0.25 * legend + 0.2), layout="constrained")
    grid = figure.subplots(rows, 2 * COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for (split, sample), (left, right) in zip(samples, grid.reshape(-1, 2), strict=False):
        left.imshow(sample.image)
        right.imshow(draw_mask(sample.mask, colours, ignore_index), interpolation="nearest")
        left.set_title(words(f"{split}  {shorten(sample.name)}"), fontsize=7, loc="left", color="#555555")
    patches = [
        Patch(facecolor="#" + bytes(colours[label]).hex(), edgecolor="#888888", linewidth=0.4, label=words(text))
        for label in order
        for text in [f"{classes[label]}  {100 * shares[label]:.2g} %"]
    ]
    patches.append(Patch(facecolor="#d7d7d7", edgecolor="#969696", hatch="xxxx", linewidth=0.4, label="void"))
    figure.legend(handles=patches, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    return figure


def shorten(name: str, length: int = 34) -> str:
    """A name whose middle is left out if it is too long for its place."""
    half = length // 2 - 1
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"
