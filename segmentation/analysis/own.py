"""Settings that every network may have of its own, such as its learning rate: of those tried, what validated best.

An ablation at one rate favours the network that this rate suits; so each is shown at its best of the same ones.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segmentation.analysis.runs import Run
from segmentation.config import better
from segmentation.errors import UserError, nearest

OWNED = ("optimizer", "scheduler", "loss", "aux", "augment", "lstm", "trainer")  # groups of what can be tuned
FIXED = ("lstm._target_", "lstm.order")  # which network it is


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
            scored = [row[monitor] for row in run.history if row.get(monitor) is not None]
            values = [sign * value for value in scored if math.isfinite(value)]
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
            values = sorted({json.dumps(variant.own[key]) for variant in self.tried})
            texts.append(f"{key}={json.dumps(value)}" + (f" (of {', '.join(values)})" if len(values) > 1 else ""))
        return ", ".join(texts)


def choose(groups: Iterable[tuple[Mapping[str, Any], Sequence[Run]]], own: Sequence[str]) -> list[Choice]:
    """Of the groups that differ in nothing but their own settings, the best.

    Args:
        groups: settings, and the runs that have them.
        own: dotted keys.
    """
    groups = list(groups)
    for key in own:
        check_key(key, [settings for settings, _ in groups])
    variants: dict[str, list[Variant]] = {}
    for settings, runs in groups:
        values = {key: look_up(settings, key) for key in own}
        variants.setdefault(json.dumps(without(settings, own), sort_keys=True), []).append(Variant(values, runs))
    return [best_of(tried) for tried in variants.values()]


def best_of(tried: Sequence[Variant]) -> Choice:
    """The variant that validated best.

    Raises:
        UserError: where they were not trained with the same seeds, which are not alike easy.
    """
    seeds = [sorted(run.seed for run in variant.runs) for variant in tried]
    for variant, own in zip(tried, seeds, strict=True):
        if own != seeds[0]:
            raise UserError(
                f"{variant.runs[0].folder}: with {variant.own} there are seeds {own}, with {tried[0].own} {seeds[0]}; "
                "--own compares values over the same seeds: train what is missing"
            )
    return Choice(max(tried, key=lambda one: one.score) if len(tried) > 1 else tried[0], tried)


def check_key(key: str, settings: Sequence[Mapping[str, Any]]) -> None:
    """Raise a UserError unless some of the settings have the key, and it is none that cells are told apart by."""
    if key in FIXED or not key.startswith(OWNED):
        raise UserError(f"--own {key}: not a setting that a network can have of its own; try optimizer.lr")
    found = [value for each in settings if (value := look_up(each, key)) is not None]
    if any(isinstance(value, Mapping) for value in found):
        group = next(value for value in found if isinstance(value, Mapping))
        raise UserError(f"--own {key}: a group; name one of its keys, such as {next(leaves(group, f'{key}.'), key)}")
    if not found:
        known = sorted({leaf for each in settings for leaf in leaves(each)})
        raise UserError(f"--own {key}: the runs have no such key; {nearest(key, known)}")


def look_up(settings: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None for a network that has none."""
    found: Any = settings
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every dotted key that has a value."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def without(settings: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The settings but for some dotted keys."""
    left: dict[str, Any] = {}
    for name, value in settings.items():
        below = [key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")]
        if name not in keys:
            left[name] = without(value, below) if below and isinstance(value, Mapping) else value
    return left
