"""Scores from integer confusion matrices: of a whole split, or of many at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.integer[Any]] | npt.NDArray[np.float64]
Values = npt.NDArray[np.float64]


def class_scores(confusion: Counts) -> dict[str, Values]:
    """IoU, accuracy and Dice [..., C] of every class from counts [..., C, C]; NaN where no true pixel is of it."""
    correct = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    truth, predicted = confusion.sum(-1), confusion.sum(-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "iou": correct / (truth + predicted - correct),
            "accuracy": correct / truth,
            "dice": 2 * correct / (truth + predicted),
        }
    return {name: np.where(truth > 0, values, np.nan) for name, values in found.items()}


def iou(parts: Counts) -> Values:
    """IoU of each class [..., C] from right, true and predicted pixels [..., 3, C]; NaN without true ones."""
    right, truth, predicted = np.moveaxis(parts, -2, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(truth > 0, right / (truth + predicted - right), np.nan)


def metric(name: str, confusion: Counts) -> Values:
    """`pixel_accuracy`, or `mean_` of a class score over the classes that are there, [...] from counts [..., C, C]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if name == "pixel_accuracy":
            return np.asarray(np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum((-2, -1)))
        values = class_scores(confusion)[name.removeprefix("mean_")]
        there = ~np.isnan(values)
        return np.asarray(np.where(there, values, 0).sum(-1) / there.sum(-1))


def scores(confusion: npt.NDArray[np.integer[Any]], classes: Sequence[str]) -> dict[str, Any]:
    """Pixel accuracy, and accuracy, IoU and Dice of each class with their means.

    A class that no true pixel has is absent: its scores are None and it is left out of the means; pixels wrongly given
    to it still count, as errors of the classes they belong to.

    Args:
        confusion: counts [C, C], a row for each true class, a column for each predicted one.
        classes: their names.

    Returns:
        Plain data for JSON: fractions in 0...1, or None where there is nothing to divide by.
    """
    by_class = class_scores(confusion)
    pixels = confusion.sum(1)
    means = ("pixel_accuracy", "mean_accuracy", "mean_iou", "mean_dice")
    return {
        **{name: plain(metric(name, confusion)) for name in means},
        "per_class": {
            name: {key: plain(values[index]) for key, values in by_class.items()} | {"pixels": int(pixels[index])}
            for index, name in enumerate(classes)
        },
        "absent_classes": [name for name, count in zip(classes, pixels, strict=True) if not count],
        "confusion_matrix": confusion.tolist(),
    }


def plain(value: Any) -> float | None:
    """A Python float; None for NaN, which JSON does not have."""
    return None if np.isnan(value) else float(value)
