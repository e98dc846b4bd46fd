"""Scan orders as they go over the map: inline SVG, drawn and animated without a script."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.integer[Any]]
CELL = 12  # units of the drawing a map position takes


def draw_scan(sequences: Indices, steps: Indices, title: str) -> str:
    """A line for each sequence, from its start (dot) on; all are drawn at once, as they are scanned.

    Args:
        sequences: number of each map position's sequence [h, w].
        steps: of each position in its sequence [h, w].
        title: for those who cannot see it; HTML-escaped already.
    """
    height, width = (CELL * side for side in steps.shape)
    dots = "".join(
        f'<circle cx="{CELL * (column + 0.5):g}" cy="{CELL * (row + 0.5):g}" r="1"/>'
        for row, column in np.ndindex(steps.shape)
    )
    ways = "".join(draw_way(way_of(sequences, steps, number)) for number in np.unique(sequences))
    return (
        f'<svg class="scan" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">'
        f'<g class="places">{dots}</g>{ways}</svg>'
    )


def way_of(sequences: Indices, steps: Indices, number: int) -> list[tuple[int, int]]:
    """(row, column) of the positions of one sequence, in visiting order."""
    rows, columns = np.nonzero(sequences == number)
    order = np.argsort(steps[rows, columns])
    return list(zip(rows[order].tolist(), columns[order].tolist(), strict=True))


def draw_way(way: Sequence[tuple[int, int]]) -> str:
    """One sequence: its whole way, pale, and over it the line that grows."""
    points = [(CELL * (column + 0.5), CELL * (row + 0.5)) for row, column in way]
    path = "M" + " ".join(f"{x:g} {y:g}" for x, y in points)
    start = f'<circle class="start" cx="{points[0][0]:g}" cy="{points[0][1]:g}" r="3"/>'
    return f'<path class="whole" d="{path}"/><path class="grown" pathLength="1" d="{path}"/>{start}'
