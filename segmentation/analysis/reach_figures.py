"""Figures of how far the networks of one backbone see: their receptive fields, and influence against distance."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from segmentation.analysis import plots
from segmentation.analysis.cells import Cell
from segmentation.analysis.reach import falloff, plane_distances, radius, scan_distances, shrink
from segmentation.analysis.runs import FIELDS

Arrays = Mapping[str, npt.NDArray[Any]]
COLUMNS = 4
DECADES = 4  # shown below the largest value


@dataclass(frozen=True)
class Reach:
    """A cell's fields, averaged over its seeds and scaled to a sum of one."""

    label: str
    field: npt.NDArray[np.float64]  # [H, W], over the input
    slot_field: npt.NDArray[np.float64]  # [h, w], over the map before the LSTM
    arrays: Arrays  # of its first run


def find_reach(cells: Sequence[Cell]) -> tuple[list[Reach], list[str]]:
    """Of the cells whose runs all left their analysis, of one size, and the labels of the others."""
    found: list[Reach] = []
    for cell in cells:
        known = [arrays for run in cell.runs if (arrays := run.analysis()) is not None]
        sums = [arrays[key].sum() for arrays in known for key in FIELDS]
        if len(known) == len(cell.runs) and all(np.isfinite(sums)) and all(sums) and one_size(known):
            field, slot_field = (np.mean([arrays[key] / arrays[key].sum() for arrays in known], 0) for key in FIELDS)
            found.append(Reach(cell.label, field, slot_field, known[0]))
    alike = [reach for reach in found if reach.field.shape == found[0].field.shape]
    labels = {reach.label for reach in alike}
    return alike, [cell.label for cell in cells if cell.label not in labels]


def one_size(known: Sequence[Arrays]) -> bool:
    """Whether all fields of several runs have the same shapes."""
    return all(arrays[key].shape == known[0][key].shape for arrays in known for key in FIELDS)


def draw_fields(reaches: Sequence[Reach]) -> Figure:
    """The influence of every input pixel on the middle one's class, on a logarithmic scale that all share."""
    columns = min(COLUMNS, len(reaches))
    rows = -(-len(reaches) // columns)
    height, width = reaches[0].field.shape
    figure = Figure(figsize=(2.5 * columns + 0.9, (2.5 * height / width + 0.35) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    top = max(reach.field.max() for reach in reaches)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, reach in zip(grid.flat, reaches, strict=False):
        logarithm = np.log10(np.maximum(reach.field / top, 10.0**-DECADES))
        picture = axes.imshow(logarithm, cmap="magma", vmin=-DECADES, vmax=0)
        axes.set_title(plots.words(textwrap.fill(reach.label, 32)), fontsize=9.5)
    bar = figure.colorbar(picture, ax=grid, shrink=0.8, ticks=range(-DECADES, 1))
    bar.ax.set_yticklabels([f"$10^{{{power}}}$" for power in range(-DECADES, 0)] + ["most"], fontsize=8)
    return figure


def draw_falloff(reaches: Sequence[Reach], shades: Sequence[str], unscanned: str | None) -> Figure:
    """Influence against distance in the plane, and in steps of the scan for the cells that have one.

    Args:
        reaches: of the cells.
        shades: their colours.
        unscanned: label of the cell without a scan, whose influence is drawn along every scan, dotted.
    """
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    plane, scan = figure.subplots(1, 2)
    bare = next((reach for reach in reaches if reach.label == unscanned), None)
    for position, reach in enumerate(reaches):
        colour = shades[position % len(shades)]
        distances = plane_distances(reach.field.shape)
        plane.plot(*falloff(reach.field, distances), color=colour, linewidth=1.4, label=plots.words(reach.label))
        for number in range(len(reach.arrays.get("steps", ()))):
            scan.plot(*along_scan(reach, number, reach), color=colour, linewidth=1.4, linestyle=["-", "--"][number % 2])
            if bare is not None and bare.slot_field.shape == reach.slot_field.shape:
                scan.plot(*along_scan(reach, number, bare), color=colour, linewidth=1, linestyle=":")
    plane.set_title("In the plane", loc="left", fontweight="bold")
    plane.set_xlabel("pixels of the input from the middle")
    scan.set_title("In the scan", loc="left", fontweight="bold")
    scan.set_xlabel("steps from the middle's")
    for axes in (plane, scan):
        axes.set_yscale("log")
        plots.tidy(axes)
    plane.set_ylabel("mean influence")
    plots.legend_below(figure, plane, columns=4, size="small")
    return figure


def along_scan(scanning: Reach, number: int, of: Reach) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distances in steps of one of a cell's scans, and the mean influence that the map's positions so far away have in
    a network, where there is any.
    """
    sequences, steps = scanning.arrays["sequences"][number], scanning.arrays["steps"][number]
    down, across = (int(part * side / 2) for part, side in zip(scanning.arrays["cover"], steps.shape, strict=True))
    pooled = shrink(of.slot_field, int(scanning.arrays["pooling"]))
    distances, means = falloff(pooled, scan_distances(sequences, steps, (down, across)))
    return distances[means > 0], means[means > 0]


def describe(reaches: Sequence[Reach]) -> str:
    """How far each sees, in words."""
    parts = [f"{reach.label} {radius(reach.field, 0.5):.0f} ({radius(reach.field, 0.9):.0f})" for reach in reaches]
    return f"Half (nine tenths) of the influence lies within this many pixels of the middle: {', '.join(parts)}."
