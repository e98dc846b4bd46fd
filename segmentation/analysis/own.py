"""Settings that every network may have of its own, such as its learning rate: of those tried, what validated best.

An ablation at one rate favours the network that this rate suits; so each is shown at its best of the same ones.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segmentation.analysis.runs import Run
from segmentation.config import better
from segmentation.errors import UserError, nearest


class Variant(NamedTuple):
    """Runs that differ in nothing but their seed, and what they have of their own."""

    own: Mapping[str, Any]  # dotted key -> value
    runs: Sequence[Run]

    @property
    def score(self) -> float:
        """The mean over the runs of each one's best validation, by its `monitor`; higher is better.

        Raises:
            UserError: for a run whose history does not have it.
        """
        scores = []
        for run in self.runs:
            monitor = str(run.config.get("monitor", "val/mean_iou"))
            sign = -1 if better(monitor) == "min" else 1
            values = [sign * row[monitor] for row in run.history if row.get(monitor) is not None]
            if not values:
                raise UserError(f"{run.folder}: its history.json has no {monitor}, by which --own chooses")
            scores.append(max(values))
        return float(np.mean(scores))


class Choice(NamedTuple):
    """The best of a network's variants, and what was tried."""

    best: Variant
    tried: Sequence[Variant]

    def __str__(self) -> str:
        """`optimizer.lr=0.01 (of 0.003, 0.01)`."""
        texts = []
        for key, value in self.best.own.items():
            values = sorted({variant.own[key] for variant in self.tried}, key=lambda each: (str(type(each)), each))
            texts.append(f"{key}={value}" + (f" (of {', '.join(map(str, values))})" if len(values) > 1 else ""))
        return ", ".join(texts)


def choose(groups: Iterable[tuple[Mapping[str, Any], Sequence[Run]]], own: Sequence[str]) -> list[Choice]:
    """Of the groups that differ in nothing but their own settings, the best.

    Args:
        groups: settings, and the runs that have them.
        own: dotted keys.
    """
    variants: dict[str, list[Variant]] = {}
    for settings, runs in groups:
        values = {key: look_up(settings, key) for key in own}
        variants.setdefault(json.dumps(without(settings, own), sort_keys=True), []).append(Variant(values, runs))
    return [Choice(max(tried, key=lambda one: one.score) if len(tried) > 1 else tried[0], tried)
            for tried in variants.values()]  # fmt: skip


def look_up(settings: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key.

    Raises:
        UserError: where there is no such key, or a group of them.
    """
    found: Any = settings
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise UserError(f"--own {key}: the runs have no such key; {nearest(key, list(leaves(settings)))}")
        found = found[part]
    if isinstance(found, Mapping):
        raise UserError(f"--own {key}: a group; name one of its keys, such as {next(leaves(found, f'{key}.'), key)}")
    return found


def leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every dotted key that has a value."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def without(settings: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The settings but for some dotted keys."""
    left: dict[str, Any] = {}
    for name, value in settings.items():
        below = [key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")]
        if name not in keys:
            left[name] = without(value, below) if below and isinstance(value, Mapping) else value
    return left
