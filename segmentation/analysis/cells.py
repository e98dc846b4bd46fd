"""The cells of a study: runs that differ in nothing but their seed; and the pairs of cells that differ in one thing."""

import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segmentation.analysis.own import Choice, choose
from segmentation.analysis.runs import Run
from segmentation.analysis.settings import flatten
from segmentation.errors import UserError

ROLES = ("none", "lstm", "control")
# What tells where, how fast or how far a run went, but not which network was trained in which way.
NOT_THE_CELL = ("seed", "output", "ckpt", "resume", "train", "test", "logger")
WATCHERS = ("best", "last", "images", "overview", "progress", "inspection")  # callbacks that change no training
NOT_THE_DATA = ("root", "num_workers", "check", "cache", "cache_gib", "shown")
CONTROLS = "segmentation.models.controls."
IDENTITY = f"{CONTROLS}identity"


@dataclass(frozen=True)
class Cell:
    """Runs that differ in nothing but their seed."""

    label: str
    settings: Mapping[str, Any]
    choices: Mapping[str, str]
    runs: Sequence[Run]  # by seed
    own: Choice | None = None  # settings of its own, which are not among `settings`, and what else was tried

    def by_seed(self) -> dict[int, Run]:
        return {run.seed: run for run in self.runs}

    @property
    def role(self) -> str:
        """What stands in the LSTM's place: `none`, a `control`, or an `lstm`."""
        target, order = self.settings["lstm"].get("_target_", ""), self.settings["lstm"].get("order")
        if target == IDENTITY:
            return "none"
        return "control" if target.startswith(CONTROLS) or order == "shuffle" else "lstm"

    def values(self, metric: str) -> list[float]:
        return [run.metrics[metric] for run in self.runs]


@dataclass(frozen=True)
class Pair:
    """Two cells that differ in one group, compared at the seeds that both have."""

    group: str
    base: Cell
    other: Cell

    @property
    def seeds(self) -> list[int]:
        return sorted(self.base.by_seed().keys() & self.other.by_seed().keys())

    @property
    def num_folds(self) -> int:
        """Folds, of all deals, that each compared run stands for; 0 where it stands for itself."""
        return len(self.base.by_seed()[self.seeds[0]].members) if self.seeds else 0

    def differences(self, metric: str) -> list[float]:
        """other - base, at each common seed."""
        base, other = self.base.by_seed(), self.other.by_seed()
        return [other[seed].metrics[metric] - base[seed].metrics[metric] for seed in self.seeds]

    def fold_differences(self, metric: str) -> list[float]:
        """other - base in each fold, the mean over the common seeds; empty where no fold was tested on."""
        base, other = self.base.by_seed(), self.other.by_seed()
        folds = [
            [after.metrics[metric] - before.metrics[metric] for before, after in zip(*members, strict=True)]
            for seed in self.seeds
            if all(members := (base[seed].members, other[seed].members)) and base[seed].metrics["split"] == "val"
        ]
        return [float(difference) for difference in np.mean(folds, 0)] if folds else []


def find_cells(runs: Sequence[Run], own: Sequence[str] = ()) -> list[Cell]:
    """Runs grouped by all that their configuration says but the seed, labelled by what differs between the groups.

    Args:
        runs: finished ones.
        own: dotted keys of which every network has a value of its own, the best of those that its runs have.

    Raises:
        UserError: for runs whose scores cannot be compared, for two runs of one cell with the same seed, and for a key
            that the runs do not have.
    """
    check_contracts(runs)
    grouped: dict[str, tuple[dict[str, Any], list[Run]]] = {}
    for run in runs:
        settings = cell_settings(run)
        _, members = grouped.setdefault(json.dumps(settings, sort_keys=True), (settings, []))
        if not any(repeats(run, member) for member in members):
            members.append(run)
    choices = choose(list(grouped.values()), own)
    labels = label_cells(choices)
    cells = []
    for label, choice in zip(labels, choices, strict=True):
        ordered = sorted(choice.best.runs, key=lambda run: run.seed)
        check_cell(ordered)
        cells.append(Cell(label, choice.settings, ordered[0].choices, ordered, choice if own else None))
    return sorted(cells, key=lambda cell: (ROLES.index(cell.role), cell.label))


def check_cell(runs: Sequence[Run]) -> None:
    """Raise a UserError unless each seed is there once, and each time with the network that one release builds."""
    for first, second in itertools.pairwise(runs):
        if first.seed == second.seed:
            both = f"{first.folder} and {second.folder}"
            raise UserError(f"{both}: the same configuration and seed; keep one of them")
        usual, its = (run.metrics.get("parameters") for run in (first, second))
        if its != usual:
            both = f"{second.folder} has a network of {its} parameters, {first.folder} of {usual}"
            raise UserError(f"{both}, both configured alike: releases build it differently; train them anew with one")


def check_contracts(runs: Sequence[Run]) -> None:
    """Raise a UserError unless all scores were computed on the same files in the same way."""
    first = runs[0]
    for run in runs[1:]:
        for key, value in run.contract.items():
            if value != first.contract[key]:
                raise UserError(
                    f"{run.folder}: its {key} is {value!r} instead of {first.contract[key]!r} as in {first.folder}; "
                    "their scores do not compare"
                )


def repeats(run: Run, other: Run) -> bool:
    """Whether a run of the same cell is but a network without an LSTM that a grid had trained for one setting more.

    What is there twice outright is not: that is refused.
    """
    return run.seed == other.seed and run.config["lstm"] != other.config["lstm"]


def cell_settings(run: Run) -> dict[str, Any]:
    """The run's configuration without what leaves the trained network as it is."""
    settings = {key: value for key, value in run.config.items() if key not in NOT_THE_CELL}
    settings["data"] = {key: value for key, value in settings.get("data", {}).items() if key not in NOT_THE_DATA}
    if settings["lstm"].get("_target_") == IDENTITY:  # which the LSTM's settings do nothing to
        settings["lstm"] = {"_target_": IDENTITY}
    callbacks = settings.get("callbacks", {})
    settings["callbacks"] = {name: callback for name, callback in callbacks.items() if name not in WATCHERS}
    return settings


def label_cells(choices: Sequence[Choice]) -> list[str]:
    """A short name for each of several configurations, of the settings in which they differ but for their own."""
    runs = [choice.best.runs[0] for choice in choices]
    flat = [dict(flatten(choice.settings)) for choice in choices]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    differing = [key for key in keys if len({json.dumps(settings.get(key)) for settings in flat}) > 1]
    groups = list(dict.fromkeys(key.partition(".")[0] for key in differing)) or ["backbone", "decoder", "lstm"]
    shared = set.intersection(*(set(run.overrides) for run in runs))  # said to all, so it tells none apart
    own = {key for choice in choices for key in choice.best.own}
    shared |= {text for run in runs for text in run.overrides if text.lstrip("+").partition("=")[0] in own}
    labels = [" ".join(group_label(run, group, shared) for group in groups) for run in runs]
    if len(set(labels)) < len(labels):  # the same choices with other values in them
        labels = [
            " ".join(
                [label, *(f"{key}={settings[key]}" for key in differing if key in settings and "_target_" not in key)]
            )
            for label, settings in zip(labels, flat, strict=True)
        ]
    return labels


def group_label(run: Run, group: str, shared: Collection[str]) -> str:
    """What the user chose of a group: its YAML's name, or the value itself where it is none, and what else was set for
    this run but not for all.
    """
    value = run.config.get(group)
    choice = str(run.choices.get(group, value if not isinstance(value, Mapping) else value.get("name", group)))
    own = [text.lstrip("+") for text in run.overrides if text not in shared]
    return " ".join([choice, *(text for text in own if text.startswith(f"{group}."))])


def find_pairs(cells: Sequence[Cell]) -> list[Pair]:
    """Everything against none and the LSTMs against their controls, all else equal; where neither is there to compare
    with, whatever pairs differ in one other group.
    """
    pairs = []
    for base in cells:
        for other in cells:
            groups = [key for key in base.settings if base.settings[key] != other.settings.get(key)]
            if len(groups) == 1:
                pairs.append(Pair(groups[0], base, other))
    wanted = [("none", "lstm"), ("none", "control"), ("control", "lstm")]
    against = [pair for pair in pairs if pair.group == "lstm" and (pair.base.role, pair.other.role) in wanted]
    if against:
        return sorted(against, key=lambda pair: wanted.index((pair.base.role, pair.other.role)))
    order = {id(cell): position for position, cell in enumerate(cells)}
    return [pair for pair in pairs if order[id(pair.base)] < order[id(pair.other)]]
