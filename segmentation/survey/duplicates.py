"""Images that are the same, or nearly."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segmentation.survey.facts import Fact

CHUNK = 1024  # thumbnails compared with all before them at a time
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
    """Every image with the earlier one of each split that is most like it, whatever their brightness; those that are
    the same are left out. A fixed camera makes all images alike, so naming all pairs would take their square.
    """
    read = [fact for fact in facts if fact.digest]
    if not read:
        return []
    thumbs = np.stack([fact.thumb for fact in read])
    contents = np.unique([fact.digest for fact in read], return_inverse=True)[1]
    splits = np.array([fact.split for fact in read])
    pairs = []
    for begin in range(0, len(read), CHUNK):
        rows = np.arange(begin, min(begin + CHUNK, len(read)))
        for split in dict.fromkeys(splits[: rows[-1] + 1].tolist()):
            columns = np.flatnonzero(splits[: rows[-1] + 1] == split)
            products = thumbs[rows] @ thumbs[columns].T
            products[(columns >= rows[:, None]) | (contents[columns] == contents[rows, None])] = -1
            best, highest = products.argmax(axis=1), products.max(axis=1)
            for row in np.flatnonzero(highest >= ALIKE).tolist():
                first, second = read[columns[best[row]]], read[begin + row]
                pair = (first.split, first.name), (second.split, second.name)
                pairs.append(Pair(*pair, float(highest[row])))
    return pairs
