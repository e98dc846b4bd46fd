"""The data set that needs no download: scenes drawn by `segmentation.data.scenes` whenever they are asked for."""

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from segmentation.data.samples import Sample
from segmentation.data.scenes import CLASSES, Scene
from segmentation.errors import UserError

MOST = 10_000_000  # scenes of a split


class SyntheticReader:
    """Scenes drawn anew from (seed, split, index) whenever they are asked for.

    Args:
        root: without meaning here.
        split: another split, other scenes.
        listing: how many.
        num_classes: must be that of `CLASSES`.
        ignore_index: label of the seams between objects, a pixel wide, as void lies in hand-drawn masks.
        size: [height, width] of a scene, at least 32 x 48.
        seed: another seed, another data set.
    """

    def __init__(
        self,
        *,
        root: str | None,
        split: str,
        listing: int,
        num_classes: int,
        ignore_index: int,
        size: list[int],
        seed: int,
    ) -> None:
        if num_classes != len(CLASSES):
            raise UserError(f"data.classes: the synthetic scenes have the {len(CLASSES)} classes {CLASSES}")
        if not isinstance(size, list) or len(size) != 2 or size[0] < 32 or size[1] < 48:
            raise UserError(f"data.size={size}: a scene is at least 32 pixels high and 48 wide")
        self.split, self.count, self.seed = split, int(listing), seed
        self.height, self.width = size
        self.ignore_index = ignore_index
        self.numbers = list(range(self.count))  # of the scenes
        self.names = self._names()

    @classmethod
    def exists(cls, *, split: str, listing: int | None, **_: Any) -> bool:
        """Whether there are any scenes of this split."""
        if not isinstance(listing, int | None) or not 0 <= (listing or 0) <= MOST:
            raise UserError(f"data.splits.{split}={listing}: give the number of scenes, at most {MOST:,}")
        return bool(listing)

    def _names(self) -> list[str]:
        return [f"{self.split}_{number:05d}" for number in self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        split = int.from_bytes(self.split.encode(), "little")
        rng = np.random.default_rng((self.seed, split, self.numbers[index]))
        scene = Scene(self.height, self.width, rng)
        scene.draw()
        return Sample(scene.lit(), scene.mask_with_seams(self.ignore_index), self.names[index])

    def image_file(self, index: int) -> Path | None:
        """None: images are drawn."""
        return None

    def mask_file(self, index: int) -> Path | None:
        """None: masks are drawn."""
        return None

    def select(self, indices: Sequence[int]) -> Self:
        """Some of the samples."""
        selected = copy.copy(self)
        selected.numbers = [self.numbers[index] for index in indices]
        selected.names = selected._names()
        return selected

    def check(self, seen: set[int] | None = None) -> None:
        """Nothing can be wrong with what is drawn."""

    def fingerprint(self) -> None:
        """None: drawing takes hardly longer than reading would."""

    def files_hash(self) -> str:
        """SHA-256 over what the scenes are drawn from."""
        numbers = "" if len(self) == self.count else f" {self.numbers}"
        recipe = f"synthetic {self.seed} {self.split} {self.count} {self.height}x{self.width}{numbers}"
        return hashlib.sha256(recipe.encode()).hexdigest()
