"""Between Hydra and Optuna: what a command line spans, a trial as a command line, and the score of its run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from segmentation.errors import UserError
from segmentation.monitoring import best


def find_space(overrides: Sequence[Override]) -> dict[str, BaseDistribution]:
    """The ranges of a command line: `interval(a,b)`, `range(a,b)`, `tag(log,...)`, and lists of values."""
    space = {
        override.get_key_element(): distribution(override) for override in overrides if override.is_sweep_override()
    }
    if not space:
        raise UserError("sweeper=optuna: nothing to search; give a range, such as 'optimizer.lr=interval(1e-4,1e-2)'")
    return space


def distribution(override: Override) -> BaseDistribution:
    """What an override may be."""
    value, key = override.value(), override.get_key_element()
    match value:
        case IntervalSweep(start=low, end=high) if low is not None and high is not None:
            log = "log" in value.tags
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(low, high, log=log)
        case RangeSweep(start=low, stop=high, step=step) if low is not None and high is not None:
            if all(float(number).is_integer() for number in (low, high, step)):
                return IntDistribution(int(low), int(high) - 1, step=int(step), log="log" in value.tags)
            return FloatDistribution(low, high, step=step)
        case ChoiceSweep():
            return CategoricalDistribution([str(word) for word in override.sweep_string_iterator()])
    raise UserError(f"{key}: Optuna cannot search this; give values, range(...) or interval(...)")


def lowest(space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """One point of a space: the first choices and the lower ends."""
    return {
        key: where.choices[0] if isinstance(where, CategoricalDistribution) else where.low  # type: ignore[attr-defined]
        for key, where in space.items()
    }


def as_overrides(params: Mapping[str, Any]) -> list[str]:
    """A trial's parameters as words of a command line."""
    return [f"{key}={value}" for key, value in params.items()]


def score(folder: Path, monitor: str) -> float:
    """The best value of `monitor` over the epochs of a run.

    Raises:
        UserError: where the run's history does not have it.
    """
    file = folder / "history.json"
    rows = json.loads(file.read_text()) if file.is_file() else []
    found = best(rows, monitor)
    if found is None:
        raise UserError(f"{file}: has no {monitor}, by which sweeper=optuna judges")
    return found


def as_word(value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{as_word(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(as_word, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace('"', '\\"') + '"'
    return json.dumps(value)
