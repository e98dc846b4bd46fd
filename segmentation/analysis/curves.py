"""Validation curves of several cells in one figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from segmentation.analysis import plots
from segmentation.analysis.cells import Cell

# By cell; as many as `experiment=orders` has.
SHADES = ["#6e7781", "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#cf222e", "#1b7c83", "#54aeff",
          "#24292f", "#e16f24"]  # fmt: skip


def draw_curves(cells: Sequence[Cell]) -> Figure:
    """Validation accuracy and mean IoU over the epochs, a colour for each cell."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    titles = {"val/pixel_accuracy": "Pixel accuracy", "val/mean_iou": "Mean IoU"}
    for axes, (key, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for position, cell in enumerate(cells):
            colour = SHADES[position % len(SHADES)]
            lines = [
                {row["epoch"] + 1: row[key] for row in run.history if row.get(key) is not None} for run in cell.runs
            ]
            lines = [line for line in lines if line]
            for line in lines:
                axes.plot(list(line), list(line.values()), color=colour, linewidth=0.7, alpha=0.5)
            if lines:
                shared = sorted(set.intersection(*map(set, lines)))  # not every epoch need be validated
                mean = [np.mean([line[epoch] for line in lines]) for epoch in shared]
                label = plots.words(cell.label)
                marker = "o" if len(shared) == 1 else None  # a line of one point would not show
                axes.plot(shared, mean, color=colour, linewidth=2.2, label=label, marker=marker)
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        plots.tidy(axes)
    if figure.axes[0].lines:
        plots.legend_below(figure, figure.axes[0], columns=3)
    return figure
