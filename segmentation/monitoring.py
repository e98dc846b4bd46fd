"""Which of a metric's values is the best one."""

import math
from collections.abc import Iterable, Mapping


def better(metric: str) -> str:
    """Whether the best value of a metric is its `min` or its `max`."""
    return "min" if metric.rpartition("/")[2].startswith("loss") else "max"


def best(history: Iterable[Mapping[str, float | None]], metric: str) -> float | None:
    """The best value over the epochs of a history; None where it has none that is a finite number."""
    values = [value for row in history if (value := row.get(metric)) is not None and math.isfinite(value)]
    if not values:
        return None
    return min(values) if better(metric) == "min" else max(values)
