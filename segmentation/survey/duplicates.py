"""Images that are the same, or nearly."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segmentation.survey.facts import Fact

CHUNK = 2048  # thumbnails compared with all others at a time
ALIKE = 0.995  # correlation of two thumbnails from which on they are called nearly the same


class Pair(NamedTuple):
    """Two images that are alike, by their splits and names."""

    first: tuple[str, str]
    second: tuple[str, str]
    correlation: float

    @property
    def leaks(self) -> bool:
        """Whether they are in different splits."""
        return self.first[0] != self.second[0]


def same(facts: Sequence[Fact]) -> list[Pair]:
    """Every image with the first that has exactly its pixels."""
    groups: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        if fact.digest:
            groups[fact.digest].append(fact)
    return [
        Pair((group[0].split, group[0].name), (other.split, other.name), 1.0)
        for group in groups.values()
        for other in group[1:]
    ]


def nearly_the_same(facts: Sequence[Fact]) -> list[Pair]:
    """Pairs of images whose thumbnails correlate, whatever their brightness; those that are the same are left out."""
    read = [fact for fact in facts if fact.digest]
    if not read:
        return []
    thumbs = np.stack([fact.thumb for fact in read])
    pairs = []
    for begin in range(0, len(read), CHUNK):
        products = thumbs[begin : begin + CHUNK] @ thumbs[begin:].T
        for row, column in np.argwhere(np.triu(products, 1) >= ALIKE).tolist():
            first, second = read[begin + row], read[begin + column]
            if first.digest != second.digest:
                pair = (first.split, first.name), (second.split, second.name)
                pairs.append(Pair(*pair, float(products[row, column])))
    return pairs
