"""A sweep over folds as if every seed were one run: each image is tested once, by a network that did not train on it.

Counts are summed over the folds before any score is taken (Forman and Scholz, 2010), and the seed stays the unit of
every test: a seed's folds share training images and start from the same weights, so they are no further seeds.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segmentation.analysis.cells import cell_settings, check_contracts
from segmentation.analysis.metrics import scores
from segmentation.analysis.runs import FIELDS, Confusions, Run
from segmentation.errors import UserError


@dataclass(frozen=True)
class Pooled(Run):
    """The runs of one configuration and seed over all folds, its `members`."""

    @cached_property
    def _holders(self) -> dict[str, Run]:
        counted = [(member, member.confusions()) for member in self.members]
        return {name: member for member, found in counted if found is not None for name in found.names}

    def prediction(self, name: str) -> Path:
        return self._holders.get(name, self.members[0]).prediction(name)

    def confusions(self) -> Confusions | None:
        counted = [member.confusions() for member in self.members]
        known = [found for found in counted if found is not None]
        if len(known) < len(counted):
            return None
        names = [name for found in known for name in found.names]
        return Confusions(np.concatenate([found.confusion for found in known]), names)

    def analysis(self) -> dict[str, npt.NDArray[Any]] | None:
        known = [arrays for member in self.members if (arrays := member.analysis()) is not None]
        shapes = {tuple(arrays[key].shape for key in FIELDS) for arrays in known}
        if len(known) < len(self.members) or len(shapes) > 1:
            return None
        # The fields are averaged; the rest is the same in every fold.
        return known[0] | {key: np.mean([arrays[key] / arrays[key].sum() for arrays in known], 0) for key in FIELDS}


def pool_folds(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Runs that were tested on the folds held out from them, the folds of each seed as one; others as they are.

    Returns:
        The runs, and what had to be left out of them: seeds that lack a fold that others have.

    Raises:
        UserError: where no seed has all folds, or the same fold is not of the same images in all runs.
    """
    tested = [run for run in runs if is_held_out(run)]
    folds = sorted({fold_of(run) for run in tested})
    if len(folds) < 2:
        return list(runs), []
    for fold in folds:
        check_contracts([run for run in tested if fold_of(run) == fold])
    grouped: dict[tuple[str, int], list[Run]] = {}
    for run in tested:
        settings = cell_settings(without_fold(run))
        grouped.setdefault((json.dumps(settings, sort_keys=True), run.seed), []).append(run)
    pooled: list[Run] = [run for run in runs if not is_held_out(run)]
    missing = []
    for members in grouped.values():
        ordered = sorted(members, key=fold_of)
        numbers = [fold_of(run) for run in ordered]
        if numbers == folds:
            pooled.append(merge(ordered))
        elif len(set(numbers)) < len(numbers):
            twice = next(number for number in numbers if numbers.count(number) > 1)
            places = " and ".join(str(run.folder) for run in ordered if fold_of(run) == twice)
            raise UserError(f"{places}: the same configuration, seed and fold; keep one of them")
        else:
            lacking = ", ".join(str(fold) for fold in folds if fold not in numbers)
            missing.append(f"seed {ordered[0].seed} of {ordered[0].folder.name} lacks data.fold={lacking}")
    if not pooled:
        raise UserError(f"data.fold: no seed has finished all of {folds}; call the sweep again with resume=true")
    return pooled, missing


def is_held_out(run: Run) -> bool:
    """Whether a run was tested on its held-out fold: with folds, that is what is called `val`."""
    return run.config.get("data", {}).get("folds") is not None and run.metrics["split"] == "val"


def fold_of(run: Run) -> int:
    return int(run.config["data"]["fold"])


def without_fold(run: Run) -> Run:
    """A run whose configuration does not say which fold was held out."""
    data = {key: value for key, value in run.config["data"].items() if key != "fold"}
    overrides = [text for text in run.overrides if not text.startswith("data.fold=")]
    return replace(run, config={**run.config, "data": data}, overrides=overrides)


def merge(members: Sequence[Run]) -> Pooled:
    """The runs of all folds as one, in the folder of the first."""
    first = without_fold(members[0])
    metrics, history = pooled_metrics(members), mean_history(members)
    return Pooled(first.folder, first.config, first.choices, first.overrides, metrics, history, tuple(members))


def pooled_metrics(members: Sequence[Run]) -> dict[str, Any]:
    """Scores of the summed confusion matrix; the training time is the mean of one training."""
    every = [run.metrics for run in members]
    try:
        confusion = np.sum([metrics["confusion_matrix"] for metrics in every], 0)
    except KeyError:
        raise UserError(f"{members[0].folder}: metrics.json has no confusion_matrix; run it again") from None
    digest = hashlib.sha256("\n".join(str(metrics["files_hash"]) for metrics in every).encode()).hexdigest()
    seconds = [metrics["train_seconds"] for metrics in every if metrics.get("train_seconds")]
    images = sum(metrics["num_images"] for metrics in every)
    return {
        **every[0],
        **scores(confusion, list(every[0]["per_class"])),
        "num_images": images,
        "files_hash": digest,
        "train_seconds": float(np.mean(seconds)) if seconds else None,
    }


def mean_history(members: Sequence[Run]) -> list[dict[str, float]]:
    """The mean over the folds of each scalar, for the epochs and scalars that all of them have."""
    rows = zip(*(run.history for run in members), strict=False)
    return [
        {key: float(np.mean([row[key] for row in row_of])) for key in row_of[0] if all(key in row for row in row_of)}
        for row_of in rows
    ]
