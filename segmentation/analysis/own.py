"""Settings that every network may have of its own, such as its learning rate: of those tried, what validated best.

An ablation at one rate favours the network that this rate suits; so each is shown at its best of the same ones.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segmentation.analysis.runs import Run
from segmentation.analysis.settings import flatten, look_up, without
from segmentation.errors import UserError, nearest
from segmentation.monitoring import best, better

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
            monitor = monitor_of(run)
            found = best(run.history, monitor)
            if found is None:
                raise UserError(f"{run.folder}: its history.json has no {monitor}, by which --own chooses")
            scores.append(-found if better(monitor) == "min" else found)
        return float(np.mean(scores))

    def __str__(self) -> str:
        """`optimizer.lr=0.01`."""
        return ", ".join(f"{key}={json.dumps(value)}" for key, value in self.own.items())


class Choice(NamedTuple):
    """The best of a network's variants, and what was tried."""

    settings: Mapping[str, Any]  # that they share: all but their own
    best: Variant
    tried: Sequence[Variant]

    def __str__(self) -> str:
        """`optimizer.lr=0.01 (of 0.003, 0.01)`."""
        texts = []
        for key, value in self.best.own.items():
            values = sorted({json.dumps(variant.own[key]) for variant in self.tried})
            texts.append(f"{key}={json.dumps(value)}" + (f" (of {', '.join(values)})" if len(values) > 1 else ""))
        return ", ".join(texts)


def monitor_of(run: Run) -> str:
    """The metric by which the run's best epoch was chosen."""
    return str(run.config.get("monitor", "val/mean_iou"))


def choose(groups: Sequence[tuple[Mapping[str, Any], Sequence[Run]]], own: Sequence[str]) -> list[Choice]:
    """Of the groups that differ in nothing but their own settings, the best.

    Args:
        groups: settings, and the runs that have them.
        own: dotted keys.
    """
    for key in own:
        check_key(key, [settings for settings, _ in groups])
    networks: dict[str, tuple[dict[str, Any], list[Variant]]] = {}
    for settings, runs in groups:
        shared = without(settings, own)
        _, tried = networks.setdefault(json.dumps(shared, sort_keys=True), (shared, []))
        tried.append(Variant({key: look_up(settings, key) for key in own}, runs))
    return [Choice(shared, best_of(tried), tried) for shared, tried in networks.values()]


def best_of(tried: Sequence[Variant]) -> Variant:
    """The variant that validated best.

    Raises:
        UserError: where they were not trained with the same seeds, which are not alike easy.
    """
    seeds = [sorted(run.seed for run in variant.runs) for variant in tried]
    for variant, found in zip(tried, seeds, strict=True):
        if found != seeds[0]:
            raise UserError(
                f"{variant.runs[0].folder}: with {variant} there are seeds {found}, with {tried[0]} {seeds[0]}; "
                "--own compares values over the same seeds: train what is missing"
            )
    return max(tried, key=lambda one: one.score) if len(tried) > 1 else tried[0]


def check_key(key: str, settings: Sequence[Mapping[str, Any]]) -> None:
    """Raise a UserError unless some of the settings have the key, and it is none that cells are told apart by."""
    if key in FIXED or not key.startswith(OWNED):
        raise UserError(f"--own {key}: not a setting that a network can have of its own; try optimizer.lr")
    found = [value for each in settings if (value := look_up(each, key)) is not None]
    for value in found:
        if isinstance(value, Mapping):
            one, _ = next(flatten(value, f"{key}."), (key, None))
            raise UserError(f"--own {key}: a group; name one of its keys, such as {one}")
    if not found:
        known = sorted({name for each in settings for name, _ in flatten(each)})
        raise UserError(f"--own {key}: the runs have no such key; {nearest(key, known)}")
