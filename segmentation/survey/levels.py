"""How bright the channels of images are: mean and standard deviation, proposed where those of ImageNet cannot fit."""

from collections.abc import Sequence

import numpy as np

from segmentation.data.checks import find_darkness
from segmentation.survey.facts import Fact

LEAST = 1 / 255  # standard deviation: of a channel that is the same everywhere, by which nothing can be divided


def normalisation(facts: Sequence[Fact]) -> dict[str, list[float]] | None:
    """`mean` and `std` for `data`, over all pixels of these images; None for RGB of 8 bits, where the backbone's own do
    as well, and while it is not known what is white.
    """
    read = [fact for fact in facts if fact.levels]
    usual = all(len(fact.levels) == 3 and not fact.peaks for fact in read)
    if usual or find_darkness([fact.peak for fact in read]) is not None:
        return None
    sizes = np.array([fact.size[0] * fact.size[1] for fact in read], np.float64)
    mean, power = np.average([fact.levels for fact in read], axis=0, weights=sizes).T
    std = np.sqrt(np.maximum(power - mean**2, LEAST**2))
    return {"mean": mean.round(4).tolist(), "std": std.round(4).tolist()}
