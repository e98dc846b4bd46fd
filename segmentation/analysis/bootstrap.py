"""How much a difference depends on which images were tested: a bootstrap over videos, blocks of frames, or images.

Neighbouring frames of a video resemble one another, so drawing single frames would make the interval too narrow
(Künsch, 1989). It answers another question than the seeds do, and its spread is told apart from theirs.
"""

import functools
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from segmentation.analysis.metrics import metric
from segmentation.analysis.statistics import ALPHA

Confusions = npt.NDArray[np.integer[Any]]
Values = npt.NDArray[np.float64]
FEWEST_GROUPS = 5  # fewer videos cannot stand for others
DRAWS = 2000


class Units(NamedTuple):
    """What is drawn: every image belongs to one unit."""

    of_image: npt.NDArray[np.intp]  # [images], 0 ... number - 1
    number: int
    words: str  # "12 videos", "11 blocks of 10 consecutive frames", "64 images"
    other_videos: bool  # whether the interval speaks for images of other videos too


class Spread(NamedTuple):
    """A statistic's bootstrap distribution."""

    low: float
    high: float
    deviation: float


def find_units(names: Sequence[str], group: str | None) -> Units:
    """Videos where there are at least five, blocks of consecutive frames where there are fewer, images without group.

    Args:
        names: of the images, in the split's order.
        group: regular expression whose first group is the video, as `data.group`.
    """
    if group is None:
        return Units(np.arange(len(names)), len(names), f"{len(names)} images", True)
    matches = [(name, re.match(group, name)) for name in names]
    videos = [match[1] if match else name for name, match in matches]
    known = list(dict.fromkeys(videos))
    if len(known) >= FEWEST_GROUPS:
        return Units(np.array([known.index(video) for video in videos]), len(known), f"{len(known)} videos", True)
    length = max(1, round(math.sqrt(len(names))))
    seen: dict[str, int] = dict.fromkeys(known, 0)
    blocks: dict[tuple[str, int], int] = {}
    of_image = []
    for video in videos:
        of_image.append(blocks.setdefault((video, seen[video] // length), len(blocks)))
        seen[video] += 1
    words = (
        f"{len(blocks)} blocks of {length} consecutive frames from {len(known)} video{'s' if len(known) > 1 else ''}"
    )
    return Units(np.array(of_image), len(blocks), words, False)


def image_bootstrap(
    base: Sequence[Confusions], other: Sequence[Confusions], units: Units, name: str, draws: int = DRAWS
) -> Spread:
    """Percentile interval of other - base in a metric, averaged over seeds, when the units are drawn anew.

    Args:
        base: for each seed, a confusion matrix for every image [images, C, C].
        other: the same seeds and images, by the other network.
        units: what is drawn, with replacement.
        name: of the metric.
        draws: how often.
    """
    gains = [
        metric(name, draw(after, units, draws)) - metric(name, draw(before, units, draws))
        for before, after in zip(base, other, strict=True)
    ]
    return spread_of(np.mean(gains, 0), units)


def draw(counts: npt.NDArray[Any], units: Units, draws: int = DRAWS) -> Values:
    """Sums [draws, ...] of an image's counts [images, ...] over units drawn anew, the same units at every call."""
    summed = np.zeros((units.number, *counts.shape[1:]))
    np.add.at(summed, units.of_image, counts)
    return np.tensordot(draw_weights(units.number, draws), summed, 1)


@functools.lru_cache(maxsize=4)
def draw_weights(number: int, draws: int) -> Values:
    """How often each unit is drawn [draws, number]."""
    rng = np.random.default_rng(0)
    return rng.multinomial(number, np.full(number, 1 / number), draws).astype(np.float64)


def spread_of(values: Values, units: Units) -> Spread:
    """The 95 % interval and standard deviation of draws [draws]; draws without a value are left out.

    Percentiles of few units lie too close together: they are taken further out, as far as a t interval of so many units
    is wider than a normal one of the plug-in variance (the expanded percentile interval of Hesterberg, 2015).
    """
    number = max(units.number, 2)
    tail = stats.norm.cdf(stats.t.ppf(ALPHA / 2, number - 1) * math.sqrt(number / (number - 1)))
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return Spread(float(low), float(high), float(np.nanstd(values, ddof=1)))
