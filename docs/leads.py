"""Leads that no report has, paired by seed: `python docs/leads.py A B`, or `A B C D` for (A - B) - (C - D).

Each is a folder of runs, or FOLDER:CHOICE for those of them with `lstm=CHOICE`.
"""

import sys
from pathlib import Path

from segmentation.analysis.runs import find_runs
from segmentation.analysis.statistics import Difference, paired_difference

METRICS = ("pixel_accuracy", "mean_iou")
Scores = dict[int, dict[str, float]]


def read_scores(words: str) -> Scores:
    """The metrics of each seed, in per cent."""
    folder, _, choice = words.partition(":")
    found: Scores = {}
    for run in find_runs(Path(folder))[0]:
        if choice in ("", run.choices["lstm"]):
            if run.seed in found:
                raise SystemExit(f"error: {words}: two runs of seed {run.seed}; name a folder with one of each seed")
            found[run.seed] = {metric: 100 * run.metrics[metric] for metric in METRICS}
    return found


def lead(scores: list[Scores], metric: str) -> Difference:
    """Of the first over the second, less that of the third over the fourth."""
    seeds = sorted(set.intersection(*map(set, scores)))
    signs = (1, -1, -1, 1)
    return paired_difference(
        [sum(sign * of[seed][metric] for sign, of in zip(signs, scores, strict=False)) for seed in seeds]
    )


if __name__ == "__main__":
    if len(sys.argv) not in (3, 5):
        raise SystemExit(__doc__)
    scores = [read_scores(words) for words in sys.argv[1:]]
    for metric in METRICS:
        found = lead(scores, metric)
        interval = "" if found.low is None else f" [{found.low:+.2f}, {found.high:+.2f}], p = {found.p_value:.2g}"
        print(f"{metric}: {found.mean:+.2f}{interval}, {found.pairs} seeds")
