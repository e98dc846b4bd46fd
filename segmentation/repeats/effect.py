"""Could the drift of one training explain the differences that a study found?"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segmentation.analysis.findings import METRICS, NAMES, PRIMARY
from segmentation.errors import UserError


class Beside(NamedTuple):
    """A difference under study beside the drift, in percentage points."""

    compared: str
    metric: str
    effect: float  # mean over the seeds
    seeds: int
    drift: float  # largest difference of the same seed's repetitions

    @property
    def explained(self) -> bool:
        """Whether drift alone could have made it: each of the two networks may be off by as much, one up, one down.
        That it may cancel out over seeds is not counted on.
        """
        return self.drift > 0 and abs(self.effect) <= 2 * self.drift


def read_rows(effect: str) -> list[dict[str, Any]]:
    """The rows of a study's `ablation.json`, given as the file or as the folder of a sweep that was reported on."""
    path = Path(effect)
    file = path / "report" / "ablation.json" if path.is_dir() else path
    if not file.is_file():
        hint = f"run `python -m segmentation.report {path}` first" if path.is_dir() else "give a sweep's folder"
        raise UserError(f"effect={effect}: {file} is not there; {hint}")
    try:
        rows: list[dict[str, Any]] = json.loads(file.read_text())
        for row in rows:
            _ = row["base"], row["other"], row["num_seeds"], figures(row, PRIMARY)["mean"] + 0.0
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"effect={effect}: {file} is no ablation.json of a report; make it anew") from error
    if not rows:
        raise UserError(f"effect={effect}: {file} holds no pair that was compared; give another sweep")
    return rows


def figures(row: Mapping[str, Any], metric: str) -> Any:
    """Those of a metric: the primary one's stand in the row itself."""
    return row if metric == PRIMARY else row[metric]


def set_beside(rows: Sequence[Mapping[str, Any]], drifts: Mapping[str, float]) -> list[Beside]:
    """Every difference beside the drift of its metric, which is a fraction."""
    return [
        Beside(
            f"{row['other']} - {row['base']}",
            NAMES[metric],
            100 * figures(row, metric)["mean"],
            row["num_seeds"],
            100 * drifts[metric],
        )
        for row in rows
        for metric in METRICS
        if metric in drifts and (metric == PRIMARY or metric in row)
    ]
