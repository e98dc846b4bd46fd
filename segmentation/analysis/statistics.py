"""Is a difference more than chance? Paired over seeds: the same seed gives both networks the same start and data."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Difference(NamedTuple):
    """What paired differences say about their mean."""

    mean: float
    low: float | None  # ends of the interval; None where one seed says nothing about the spread
    high: float | None
    p_value: float | None  # two-sided, of the paired t test
    pairs: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def paired_difference(differences: Sequence[float]) -> Difference:
    """Mean of paired differences with its 95 % t interval and the p value of the paired t test (Student, 1908).

    Args:
        differences: one a pair, at least one; of any unit, which the result keeps.
    """
    values = np.asarray(differences, np.float64)
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Difference(mean, None, None, None, count)
    error = float(values.std(ddof=1)) / math.sqrt(count)
    if error == 0:  # the same difference at every seed
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0, count)
    low, high = stats.t.interval(CONFIDENCE, count - 1, loc=mean, scale=error)
    p_value = 2 * stats.t.sf(abs(mean) / error, count - 1)
    return Difference(mean, float(low), float(high), float(p_value), count)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation, the latter None for a single value."""
    array = np.asarray(values, np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None
