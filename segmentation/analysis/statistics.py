"""Is a difference more than chance? Paired over seeds: the same seed gives both networks the same start and data.

One metric, named beforehand, decides, by the paired t test; Holm's correction (1979) keeps a report of several pairs at
the same risk of one false claim as a report of one.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

ALPHA = 0.05  # the risk of claiming a difference where there is none
POWER = 0.8  # the chance of seeing a difference that is there, for the number of seeds needed
EXACT = 2**16
MOST_SEEDS = 1000  # beyond, the number says only that seeds are not the way


class Difference(NamedTuple):
    """What paired differences say about their mean, in the differences' own unit."""

    mean: float
    spread: float | None  # sample standard deviation; None, as all that follows from it, for a single seed
    low: float | None  # ends of the interval
    high: float | None
    p_value: float | None  # two-sided, of the paired t test
    pairs: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class SignFlip(NamedTuple):
    """An exact test that assumes nothing of how the differences are distributed, and how little it can say."""

    p_value: float  # two-sided
    smallest: float  # the least that so few differences allow


def paired_difference(differences: Sequence[float], alpha: float = ALPHA, overlap: float = 0.0) -> Difference:
    """Mean of paired differences with its 1 - alpha t interval and the p value of the paired t test (Student, 1908).

    Args:
        differences: one a pair, at least one.
        alpha: the share of intervals that may miss the true mean.
        overlap: of differences that share training images, as those of folds do, the test images over the training
            images of each; the mean's variance is then s² (1 / n + overlap), by the corrected resampled t test of
            Nadeau and Bengio (2003).
    """
    values = np.asarray(differences, np.float64)
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Difference(mean, None, None, None, None, count)
    spread = float(values.std(ddof=1))
    if spread == 0:  # the same difference at every seed
        return Difference(mean, 0.0, mean, mean, 1.0 if mean == 0 else 0.0, count)
    error = spread * math.sqrt(1 / count + overlap)
    low, high = stats.t.interval(1 - alpha, count - 1, loc=mean, scale=error)
    p_value = 2 * stats.t.sf(abs(mean) / error, count - 1)
    return Difference(mean, spread, float(low), float(high), float(p_value), count)


def sign_flip(differences: Sequence[float]) -> SignFlip:
    """The share of all assignments of signs whose mean is at least as far from zero (Fisher, 1935).

    Five differences allow no p value below 0.0625: then no result can be called significant at 5 % by this test.
    """
    values = np.asarray(differences, np.float64)
    count = len(values)
    if count < 2:
        return SignFlip(1.0, 1.0)
    result = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        n_resamples=EXACT,  # where there are fewer assignments than this, scipy goes through all of them
        alternative="two-sided",
        rng=np.random.default_rng(0),
    )
    return SignFlip(float(result.pvalue), 2.0 ** (1 - count))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): an adjusted value below alpha claims a difference, and the chance that a
    family without any difference claims one stays below alpha, however the tests depend on one another.
    """
    order = np.argsort(p_values)
    adjusted, largest = np.empty(len(p_values)), 0.0
    for step, position in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - step) * p_values[position]))
        adjusted[position] = largest
    return [float(value) for value in adjusted]


class Decision(NamedTuple):
    """What a pair may claim as one of a family."""

    corrected: Difference  # its interval leaves out zero exactly where Holm's p value is below alpha
    adjusted_p: float | None  # Holm's; None where a single seed leaves nothing to test
    family: int  # how many pairs were tested


def decide(family: Sequence[Sequence[float]], alpha: float = ALPHA) -> list[Decision]:
    """Paired differences of several pairs, corrected for how many of them could be tested."""
    results = [paired_difference(differences, alpha) for differences in family]
    tested = [result.p_value for result in results if result.p_value is not None]
    adjusted = iter(holm(tested))
    decisions = []
    for differences, result in zip(family, results, strict=True):
        if result.p_value is None:
            decisions.append(Decision(result, None, len(tested)))
            continue
        adjusted_p = next(adjusted)
        own = alpha * result.p_value / adjusted_p if adjusted_p > 0 else alpha / len(tested)
        decisions.append(Decision(paired_difference(differences, own), adjusted_p, len(tested)))
    return decisions


def seeds_needed(mean: float, spread: float, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """How many seeds would show a difference of this mean and spread, by the paired t test, with the power given.

    Returns:
        At least 2; None where `MOST_SEEDS` are too few.
    """
    if spread == 0:
        return 2 if mean else None
    effect = abs(mean) / spread
    for count in range(2, MOST_SEEDS + 1):
        threshold = stats.t.isf(alpha / 2, count - 1)
        if stats.nct.sf(threshold, count - 1, effect * math.sqrt(count)) >= power:  # in its own direction
            return count
    return None


def probability(value: float | None) -> str:
    """A p value."""
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation, the latter None for a single value."""
    array = np.asarray(values, np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None
