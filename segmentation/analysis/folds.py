"""A sweep over folds as if every seed were one run: its networks are all of its folds, whatever they are tested on.

Counts are summed over the folds before any score is taken (Forman and Scholz, 2010), and the seed stays the unit of
every test: a seed's folds share training images and start from the same weights, so they are no further seeds. Where
the training images were dealt into folds several times (`data.fold_seed`), all folds of all deals are a seed's.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segmentation.analysis.cells import cell_settings, check_contracts
from segmentation.analysis.metrics import scores
from segmentation.analysis.runs import FIELDS, Confusions, Run
from segmentation.errors import UserError


@dataclass(frozen=True)
class Pooled(Run):
    """The runs of one configuration and seed over all folds, its `members`.

    An image that several of them tested counts as often; what is shown of it is the first one's.
    """

    @cached_property
    def _holders(self) -> dict[str, Run]:
        counted = [(member, member.confusions()) for member in self.members]
        return {name: member for member, found in reversed(counted) if found is not None for name in found.names}

    def prediction(self, name: str) -> Path:
        return self._holders.get(name, self.members[0]).prediction(name)

    def confusions(self) -> Confusions | None:
        counted = [member.confusions() for member in self.members]
        known = [found for found in counted if found is not None]
        if len(known) < len(counted):
            return None
        summed: dict[str, npt.NDArray[np.int64]] = {}
        for found in known:
            for name, confusion in zip(found.names, found.confusion, strict=True):
                summed[name] = summed[name] + confusion if name in summed else confusion
        return Confusions(np.stack(list(summed.values())), list(summed))

    def analysis(self) -> dict[str, npt.NDArray[Any]] | None:
        known = [arrays for member in self.members if (arrays := member.analysis()) is not None]
        shapes = {tuple(arrays[key].shape for key in FIELDS) for arrays in known}
        if len(known) < len(self.members) or len(shapes) > 1:
            return None
        # The fields are averaged; the rest is the same in every fold.
        return known[0] | {key: np.mean([arrays[key] / arrays[key].sum() for arrays in known], 0) for key in FIELDS}


class Part(NamedTuple):
    """A fold of a deal."""

    deal: int  # data.fold_seed
    fold: int


def pool_folds(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Runs of several folds, those of each seed as one; others as they are.

    Returns:
        The runs, and what is not in them: seeds that lack a fold that others have, and folds that no run has.

    Raises:
        UserError: where no seed has all folds, or the same fold is not of the same images in all runs.
    """
    folded = [run for run in runs if has_folds(run)]
    parts = sorted({part_of(run) for run in folded})
    if len(parts) < 2:
        return list(runs), []
    for part in parts:
        check_contracts([run for run in folded if part_of(run) == part])
    grouped: dict[tuple[str, int], list[Run]] = {}
    for run in folded:
        settings = cell_settings(without_fold(run))
        grouped.setdefault((json.dumps(settings, sort_keys=True), run.seed), []).append(run)
    pooled: list[Run] = [run for run in runs if not has_folds(run)]
    missing = []
    for members in grouped.values():
        ordered = sorted(members, key=part_of)
        check_once(ordered)
        lacking = sorted(set(parts) - {part_of(run) for run in ordered})
        if lacking:
            missing.append(f"seed {ordered[0].seed} of {ordered[0].folder.name} lacks {say(lacking)}")
        else:
            pooled.append(merge(ordered))
    if not any(run.members for run in pooled):
        raise UserError(
            f"data.fold: no seed has finished all of {say(parts)}; give every seed the same folds, or call the sweep "
            "again with resume=true"
        )
    return pooled, missing + never_run(folded, parts)


def has_folds(run: Run) -> bool:
    return run.config.get("data", {}).get("folds") is not None


def check_once(members: Sequence[Run]) -> None:
    """Raise a UserError where two runs of one configuration and seed are of the same fold."""
    seen: dict[Part, Run] = {}
    for run in members:
        if (twin := seen.setdefault(part_of(run), run)) is not run:
            raise UserError(f"{twin.folder} and {run.folder}: the same configuration, seed and fold; keep one of them")


def never_run(runs: Sequence[Run], parts: Sequence[Part]) -> list[str]:
    """A sentence where some folds of a deal are in no run, so that the images in them were held out by none."""
    count = max(int(run.config["data"]["folds"]) for run in runs)
    absent = sorted({Part(deal, fold) for deal, _ in parts for fold in range(count)} - set(parts))
    return [f"{say(absent)} of data.folds={count}, which no run held out"] if absent else []


def say(parts: Sequence[Part]) -> str:
    """Folds in the user's words; their deal only where it is not the usual one."""
    deals: dict[int, list[str]] = {}
    for deal, fold in parts:
        deals.setdefault(deal, []).append(str(fold))
    return " and ".join(
        f"data.fold_seed={deal} data.fold={','.join(folds)}" if deal else f"data.fold={','.join(folds)}"
        for deal, folds in deals.items()
    )


def part_of(run: Run) -> Part:
    return Part(int(run.config["data"].get("fold_seed", 0)), int(run.config["data"]["fold"]))


def without_fold(run: Run) -> Run:
    """A run whose configuration does not say which fold was held out."""
    data = {key: value for key, value in run.config["data"].items() if key not in ("fold", "fold_seed")}
    overrides = [text for text in run.overrides if not text.startswith(("data.fold=", "data.fold_seed="))]
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
    return {
        **every[0],
        **scores(confusion, list(every[0]["per_class"])),
        "num_images": count_images(members),
        "files_hash": digest,
        "train_seconds": float(np.mean(seconds)) if seconds else None,
    }


def count_images(members: Sequence[Run]) -> int:
    """Different images that the folds were tested on: those of every deal are the same, and so is a test of its own."""
    if not is_held_out(members[0]):
        return int(members[0].metrics["num_images"])
    deals: dict[int, int] = {}
    for run in members:
        deal = part_of(run).deal
        deals[deal] = deals.get(deal, 0) + run.metrics["num_images"]
    return max(deals.values())


def is_held_out(run: Run) -> bool:
    """Whether a run was tested on the fold held out from it: with folds, that is what is called `val`."""
    return bool(run.metrics["split"] == "val")


def mean_history(members: Sequence[Run]) -> list[dict[str, float]]:
    """The mean over the folds of each scalar, for the epochs and scalars that all of them have."""
    rows = zip(*(run.history for run in members), strict=False)
    return [
        {key: float(np.mean([row[key] for row in row_of])) for key in row_of[0] if all(key in row for row in row_of)}
        for row_of in rows
    ]
