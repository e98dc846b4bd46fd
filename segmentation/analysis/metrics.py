"""Scores from one integer confusion matrix over a whole split."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


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
    correct = np.diag(confusion).astype(np.float64)
    truth, predicted = confusion.sum(1), confusion.sum(0)
    present = truth > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        by_class = {
            "iou": correct / (truth + predicted - correct),
            "accuracy": correct / truth,
            "dice": 2 * correct / (truth + predicted),
        }
    total = int(confusion.sum())
    means = {name: float(values[present].mean()) if present.any() else None for name, values in by_class.items()}
    return {
        "pixel_accuracy": float(correct.sum() / total) if total else None,
        "mean_accuracy": means["accuracy"],
        "mean_iou": means["iou"],
        "mean_dice": means["dice"],
        "per_class": {
            name: {key: float(values[index]) if present[index] else None for key, values in by_class.items()}
            | {"pixels": int(truth[index])}
            for index, name in enumerate(classes)
        },
        "absent_classes": [name for name, there in zip(classes, present, strict=True) if not there],
        "confusion_matrix": confusion.tolist(),
    }
