"""Crops that are chosen by what they show."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from albumentations.augmentations.crops.transforms import BaseCrop

from segmentation.data.images import Pixels


class VariedCrop(BaseCrop):  # type: ignore[misc]  # albumentations has no types
    """A part of the image in which no class covers too much, drawn anew while one does; if none of the draws is such a
    part, the most varied of them (`cat_max_ratio` is MMSegmentation's).

    Args:
        scale: least and largest height and width, as shares of the image's.
        cat_max_ratio: the largest share of the labelled pixels that a class may cover.
        tries: draws of the place; the size is drawn once, so that large crops are not favoured.
        p: share of the images that are cropped.
    """

    def __init__(
        self, scale: Sequence[float] = (0.5, 1.0), cat_max_ratio: float = 0.75, tries: int = 10, p: float = 1.0
    ) -> None:
        super().__init__(p=p)
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale={list(scale)}: give the least and the largest share, above 0 and at most 1")
        if not 0 < cat_max_ratio <= 1:
            raise ValueError(f"cat_max_ratio={cat_max_ratio}: give a share above 0 and at most 1")
        if tries < 1:
            raise ValueError(f"tries={tries}: give at least 1")
        self.scale, self.cat_max_ratio, self.tries = tuple(scale), cat_max_ratio, tries

    @property
    def targets_as_params(self) -> list[str]:
        """What the place depends on."""
        return ["mask"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """The corners of the crop, as x_min, y_min, x_max, y_max."""
        mask: Pixels = data["mask"]
        share = self.py_random.uniform(*self.scale)
        height, width = (max(1, round(share * side)) for side in mask.shape)
        chosen, least = (0, 0), math.inf
        for _ in range(self.tries):
            top, left = (
                self.py_random.randint(0, mask.shape[0] - height),
                self.py_random.randint(0, mask.shape[1] - width),
            )
            covered = largest_share(mask[top : top + height, left : left + width])
            if covered < least:
                chosen, least = (top, left), covered
            if covered <= self.cat_max_ratio:
                break
        top, left = chosen
        return {"crop_coords": (left, top, left + width, top + height)}


def largest_share(mask: Pixels) -> float:
    """What the most frequent class covers of the labelled pixels of a mask [H, W]; 1 where all are void.

    Void is 0, as `Augmentation` has it for its transforms.
    """
    counts = np.bincount(mask.ravel())[1:]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0
