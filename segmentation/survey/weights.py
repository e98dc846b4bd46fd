"""Class weights for a loss, proposed from how often classes occur."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from segmentation.survey.facts import Fact


def class_weights(pixels: npt.NDArray[np.int64], images: Mapping[int, int]) -> list[float]:
    """Median-frequency balancing (Eigen and Fergus, 2015): the median class's frequency over each class's own.

    Args:
        pixels: of each class.
        images: pixels, labelled ones, of the images in which each class occurs.

    Returns:
        A weight for each class; 1 for one without pixels.
    """
    frequency = np.array([count / images[label] if count else np.nan for label, count in enumerate(pixels.tolist())])
    if np.isnan(frequency).all():
        return [1.0] * len(frequency)
    weights = np.nanmedian(frequency) / frequency
    return [round(float(weight), 3) for weight in np.nan_to_num(weights, nan=1.0)]


def labelled_where_present(facts: Sequence[Fact], num_classes: int) -> dict[int, int]:
    """For each class, the labelled pixels of the images in which it occurs."""
    return {
        label: int(sum(fact.pixels[:num_classes].sum() for fact in facts if fact.pixels[label]))
        for label in range(num_classes)
    }
