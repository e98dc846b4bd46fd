"""Drift as JSON and as tables."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segmentation.printable import printable
from segmentation.repeats.drift import Drift
from segmentation.repeats.effect import Beside
from segmentation.runfiles import write_json


def finite(value: float) -> float | None:
    """For JSON, which knows no infinity."""
    return value if math.isfinite(value) else None


def write(
    drifts: Sequence[Drift], scores: Mapping[str, float], beside: Sequence[Beside], facts: Mapping[str, Any], file: Path
) -> dict[str, Any]:
    """Everything found out, written to the file as well."""
    content = {
        **facts,
        "drifts": [drift._asdict() | {"largest": finite(drift.largest)} for drift in drifts],
        "points": {name: finite(100 * value) for name, value in scores.items()},
        "effects": [
            one._asdict() | {"drift": finite(one.drift), "drift_could_explain_it": one.explained} for one in beside
        ],
    }
    write_json(file, content)
    return content


def show(drifts: Sequence[Drift], beside: Sequence[Beside]) -> None:
    """The tables, in the terminal."""
    console = Console(highlight=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("of the runs", "compared", "differ", "largest difference", "first, or most"):
        table.add_column(column, justify="left" if column.startswith(("of", "first")) else "right")
    for drift in drifts:
        largest = f"{drift.largest:.3g}" if drift.differing else "none"
        table.add_row(drift.of, f"{drift.compared:,}", f"{drift.differing:,}", largest, escape(printable(drift.where)))
    console.print(table)
    if not beside:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("under study", "in", "effect (points)", "drift (points)", "drift could explain it"):
        table.add_column(column, justify="right" if column.endswith("(points)") else "left")
    for one in beside:
        words = "yes" if one.explained else "no"
        names = (escape(printable(name)) for name in (one.compared, one.metric))
        table.add_row(*names, f"{one.effect:+.2f}", f"{one.drift:.3g}", words)
    console.print("", table)
