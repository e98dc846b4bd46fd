"""Leads that no report has, paired by seed: `python docs/leads.py A B`, or `A B C D` for (A - B) - (C - D).

Each is a folder of runs, or FOLDER:CHOICE for those of them with `lstm=CHOICE`.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from segmentation.analysis.ablation import with_interval
from segmentation.analysis.cells import check_contracts
from segmentation.analysis.runs import Run, find_runs
from segmentation.analysis.statistics import Difference, paired_difference, probability
from segmentation.errors import UserError

SIGNS = (1, -1, -1, 1)


def by_seed(words: str) -> dict[int, Run]:
    """The runs that the words name."""
    folder, _, choice = words.partition(":")
    runs = [run for run in find_runs(Path(folder))[0] if choice in ("", run.choices.get("lstm"))]
    found = {run.seed: run for run in runs}
    if not found or len(found) < len(runs):
        raise UserError(f"{words}: no run, or several of a seed; name a folder with one run of each seed")
    return found


def shared_seeds(sides: Sequence[Mapping[int, Run]]) -> list[int]:
    """Those that all sides have, of runs that may be compared."""
    seeds = sorted(set.intersection(*map(set, sides)))
    if not seeds:
        raise UserError("no seed is in all of the folders; name runs that share seeds")
    check_contracts([side[seed] for side in sides for seed in seeds])
    return seeds


def lead(sides: Sequence[Mapping[int, Run]], seeds: Sequence[int], metric: str) -> Difference:
    """Of the first over the second, less that of the third over the fourth, in fractions."""
    return paired_difference(
        [sum(sign * side[seed].metrics[metric] for sign, side in zip(SIGNS, sides, strict=False)) for seed in seeds]
    )


def main() -> None:
    if len(sys.argv) not in (3, 5):
        raise SystemExit(__doc__)
    try:
        sides = [by_seed(words) for words in sys.argv[1:]]
        seeds = shared_seeds(sides)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    for metric in ("pixel_accuracy", "mean_iou"):
        result = lead(sides, seeds, metric)
        print(f"{metric}: {with_interval(result)}, {result.pairs} seeds, p {probability(result.p_value) or 'unknown'}")


if __name__ == "__main__":
    main()
