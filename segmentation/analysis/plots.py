"""Plots of a run: curves, confusion matrix, IoU of each class, segmented images. Figures, drawn without a screen."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from segmentation.analysis.pictures import Colours, Labels, Pixels, changes, colourise
from segmentation.whole import whole

TRAIN, VALIDATION = "#8c959f", "#0969da"
LETTERS_AN_INCH, HANDLE = 12, 8  # of a legend; letters that a line's sample and the room beside it take
Row = Mapping[str, float]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    with whole(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a script that the font lacks shows as boxes, which says it
        figure.savefig(partial, dpi=120, format="png")


def words(text: str) -> str:
    """A name from anywhere as it stands: to matplotlib dollars are formulas, and labels that begin with _ hidden."""
    spelt = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
    return (" " if spelt.startswith("_") else "") + spelt.replace("$", r"\$")


def tidy(axes: Axes) -> None:
    """Only the lines that carry something."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#d8dee4", linewidth=0.6)
    axes.set_axisbelow(True)


def legend_below(figure: Figure, axes: Axes, columns: int, size: str = "medium") -> None:
    """What the lines of some axes are, in fewer columns where long names would not fit beside each other."""
    lines, labels = axes.get_legend_handles_labels()
    longest = max((len(label) for label in labels), default=0) + HANDLE
    fitting = max(1, int(LETTERS_AN_INCH * figure.get_figwidth()) // longest)
    columns = min(columns, fitting)
    figure.legend(lines, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=size)


def curves(history: Sequence[Row]) -> Figure:
    """Loss, and accuracy with mean IoU, of training and validation over the epochs."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    draw_curve(loss, history, "train/loss", "training", TRAIN)
    draw_curve(loss, history, "val/loss", "validation", VALIDATION)
    draw_curve(accuracy, history, "train/pixel_accuracy", "pixel accuracy, training", TRAIN)
    draw_curve(accuracy, history, "val/pixel_accuracy", "pixel accuracy, validation", VALIDATION)
    draw_curve(accuracy, history, "val/mean_iou", "mean IoU, validation", VALIDATION, dashed=True)
    loss.set_title("Loss", loc="left", fontweight="bold")
    loss.set_ylim(bottom=0)
    accuracy.set_title("Accuracy", loc="left", fontweight="bold")
    accuracy.set_ylim(0, 1)
    for axes in (loss, accuracy):
        tidy(axes)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.lines:
            axes.legend(frameon=False, fontsize="small")
    return figure


def draw_curve(axes: Axes, history: Sequence[Row], key: str, label: str, colour: str, *, dashed: bool = False) -> None:
    """One scalar over the epochs, left out where the history does not have it."""
    points = [(row["epoch"] + 1, row[key]) for row in history if key in row]
    if points:
        marker = "o" if len(points) == 1 else None  # a line of one point would not show
        axes.plot(
            *zip(*points, strict=True), color=colour, label=label, linestyle="--" if dashed else "-", marker=marker
        )


def confusion_matrix(confusion: npt.NDArray[np.integer[Any]], classes: Sequence[str]) -> Figure:
    """Shares of each true class's pixels [C, C], a row for each true class."""
    count, classes = len(classes), [words(name) for name in classes]
    side = max(4.0, 0.42 * count + 1.8)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    totals = confusion.sum(1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axes, shrink=0.8, label="share of the true class")
    axes.set_xticks(range(count), classes, rotation=45, ha="right", fontsize="small")
    axes.set_yticks(range(count), classes, fontsize="small")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.spines[:].set_visible(False)
    if count <= 25:
        for row, column in np.argwhere(shares >= 0.005):
            share = shares[row, column]
            colour = "white" if share > 0.55 else "#24292f"
            axes.text(column, row, f"{share:.0%}"[:-1], ha="center", va="center", fontsize=7, color=colour)
    return figure


def class_iou(per_class: Mapping[str, Mapping[str, Any]]) -> Figure:
    """A bar for the IoU of each class; one that the split does not have is said to be absent."""
    names = list(per_class)
    figure = Figure(figsize=(6.4, 0.3 * len(names) + 1), layout="constrained")
    axes = figure.subplots()
    values = [per_class[name]["iou"] for name in names]
    axes.barh([words(name) for name in names], [value or 0 for value in values], color=VALIDATION, height=0.7)
    for position, value in enumerate(values):
        axes.text((value or 0) + 0.01, position, "absent" if value is None else f"{value:.3f}", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08)
    axes.set_xlabel("IoU")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def segmented(
    examples: Sequence[tuple[Pixels, Labels, Labels]], classes: Sequence[str], colours: Colours, ignore_index: int
) -> Figure:
    """A row for each (image [H, W, 3], truth [H, W], prediction [H, W]): image, both masks, and in red where they
    differ; void is black.
    """
    rows = [
        (
            image,
            colourise(truth, colours),
            colourise(np.where(truth == ignore_index, 255, prediction), colours),
            changes(truth, truth, prediction, ignore_index),  # seen from the truth, each mistake broke a pixel
        )
        for image, truth, prediction in examples
    ]
    return picture_grid(rows, ["image", "truth", "prediction", "errors"], classes, colours)


def picture_grid(
    rows: Sequence[Sequence[Pixels]], titles: Sequence[str], classes: Sequence[str], colours: Colours
) -> Figure:
    """Rows of RGB pictures below their titles, with the classes' colours as a legend."""
    height, width = rows[0][0].shape[:2]
    cell = 2.8
    legend_rows = -(-len(classes) // 6) if len(classes) <= 30 else 0
    high = cell * height / width * len(rows) + 0.35 + 0.24 * legend_rows
    figure = Figure(figsize=(cell * len(titles), high), layout="constrained")
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for line, pictures in zip(grid, rows, strict=True):
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(words(title), fontsize="medium", fontweight="bold")
    if legend_rows:
        patches = [
            Patch(color="#" + bytes(colour).hex(), label=words(name))
            for name, colour in zip(classes, colours, strict=True)
        ]
        figure.legend(handles=patches, loc="outside lower center", ncols=6, frameon=False, fontsize="small")
    return figure
