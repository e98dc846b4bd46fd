"""Splits made by the project: folds for cross-validation, by group where a data set has groups, and quick samples."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from segmentation.errors import UserError


class Folds(NamedTuple):
    """The training split, dealt into parts of which one is held out as `val`."""

    parts: int
    held_out: int
    seed: int

    def check(self) -> None:
        """Raise a UserError unless such folds can be."""
        if self.parts < 2:
            raise UserError(f"data.folds={self.parts}: give at least 2, or null for the splits as they are")
        if not 0 <= self.held_out < self.parts:
            raise UserError(f"data.fold={self.held_out}: with data.folds={self.parts} give 0 to {self.parts - 1}")

    def positions(self, split: str, groups: Sequence[str]) -> list[int]:
        """Which samples of the training split belong to `train` or `val`.

        Args:
            split: one of these two.
            groups: of every sample; one group is never in two folds.
        """
        folds = deal(groups, self.parts, self.seed)
        return [index for index, fold in enumerate(folds) if (fold == self.held_out) == (split == "val")]


def find_sources(splits: Collection[str], folds: Folds | None) -> dict[str, str]:
    """Each split, and that from which its samples are taken.

    With folds, `train` and `val` are parts of the training split, and the data set's own `val`, which then nothing is
    chosen by, is tested where there is no `test`.
    """
    sources = {split: split for split in splits}
    if folds is None:
        return sources
    folds.check()
    if "train" not in splits:
        raise UserError("data.folds: there is no training split to deal into folds")
    if "val" in splits:
        sources.setdefault("test", "val")
    return sources | {"val": "train"}


def deal(groups: Sequence[str], count: int, seed: int) -> list[int]:
    """The fold of every sample: groups in random order, the largest first, each to the fold with the fewest samples.

    Raises:
        UserError: if there are fewer groups than folds.
    """
    sizes = Counter(groups)
    if len(sizes) < count:
        raise UserError(
            f"data.folds={count}: the training split has only {len(sizes)} groups (data.group), and none may be in two "
            f"folds; give at most {len(sizes)}, or data.group=null"
        )
    names = sorted(sizes)
    shuffled = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    fold_of: dict[str, int] = {}
    filled = [0] * count
    for name in sorted(shuffled, key=lambda name: -sizes[name]):  # stable: those of one size stay shuffled
        fold_of[name] = filled.index(min(filled))
        filled[fold_of[name]] += sizes[name]
    return [fold_of[group] for group in groups]


def thin_out(length: int, limit: int) -> list[int]:
    """At most `limit` positions, at even distances over `length`."""
    if limit < 1:
        raise UserError(f"data.limit={limit}: give the number of samples of each split, or null for all")
    return sorted({int(place) for place in np.linspace(0, length - 1, min(limit, length)).round()})
