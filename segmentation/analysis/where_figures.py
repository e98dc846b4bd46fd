"""Figures of where a pair differs: by class and kind of pixel, and image by image."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segmentation.analysis.spans import Span, draw_spans
from segmentation.analysis.where import Change, Where

GAINED, LOST = "#2ea043", "#cf222e"


def draw_changes(where: Where) -> Figure:
    """A panel each for the classes and every way to sort the pixels: mean, interval over images, and the seeds."""
    panels = {"Class: change of IoU": where.classes, **where.strata}
    rows = [list(panels.items())[start : start + 2] for start in range(0, len(panels), 2)]
    lengths = [max(len(changed) for _, changed in row) for row in rows]
    heights = [0.27 * length + 0.85 for length in lengths]
    figure = Figure(figsize=(10, sum(heights)), layout="constrained")
    grid = figure.subplots(len(rows), 2, squeeze=False, height_ratios=heights)
    for line, row, length in zip(grid, rows, lengths, strict=True):
        for axes, (title, changed) in zip(line, row, strict=False):
            draw_panel(axes, title, changed)
            axes.set_ylim(length - 0.4, -0.6)  # lines equally far apart in both panels, the first on top
        for axes in line[len(row) :]:
            axes.set_axis_off()
    for axes in grid[-1]:
        axes.set_xlabel("points")
    return figure


def draw_panel(axes: Axes, title: str, changed: Sequence[Change]) -> None:
    """A line for each band, from the top."""
    spans = [
        Span(
            f"{one.name}  ({percent(one.share)})",
            one.mean,
            (one.images.low, one.images.high),
            one.seeds,
            one.stands_out,
        )
        for one in changed
    ]
    draw_spans(axes, title, spans)


def draw_images(where: Where) -> Figure:
    """Pixels repaired and broken in every image, from the image that gained most to the one that lost most."""
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    axes = figure.subplots()
    ranked = np.argsort(where.broken - where.repaired, kind="stable")
    places = np.arange(len(ranked))
    axes.bar(places, 100 * where.repaired[ranked], width=0.9, color=GAINED, label="repaired")
    axes.bar(places, -100 * where.broken[ranked], width=0.9, color=LOST, label="broken")
    axes.plot(
        places, 100 * (where.repaired - where.broken)[ranked], ".", color="#24292f", markersize=3, label="both together"
    )
    axes.axhline(0, color="#24292f", linewidth=0.8)
    axes.set_xlabel("test images, by what they gained")
    axes.set_ylabel("% of the pixels")
    axes.set_xticks([])
    axes.set_xlim(-1, len(ranked))
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize="small")
    return figure


def describe_images(where: Where) -> str:
    """How much was repaired and broken, in words."""
    said = [
        f"{kind} {100 * total:.2f} % [{100 * spread.low:.2f}, {100 * spread.high:.2f}]"
        for kind, (total, spread) in where.totals.items()
    ]
    return (
        f"Pixels of each test image that only {where.pair.other.label} has right (repaired) and that only "
        f"{where.pair.base.label} had right (broken), means over {len(where.pair.seeds)} seeds. Of all pixels: "
        f"{' and '.join(said)}, 95 % over {where.units.words}."
    )


def percent(share: float) -> str:
    """A share that reads well."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"
