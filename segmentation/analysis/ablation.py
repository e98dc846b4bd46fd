"""The ablation's table: cells, paired differences, and the sentence that they allow. Written as Markdown, CSV, JSON."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from segmentation.analysis.runs import Cell, Pair
from segmentation.analysis.statistics import Difference, mean_and_spread, paired_difference

PRIMARY = "pixel_accuracy"  # decides; named before any run
METRICS = (PRIMARY, "mean_iou")
HEADER = ["network", "seeds", "accuracy %", "mean IoU %", "parameters", "training", "Δ accuracy (points)",
          "Δ mean IoU (points)"]  # fmt: skip
SCORES, DIFFERENCES = range(1, 6), range(6, 8)  # columns of the two tables in the terminal


def difference(pair: Pair, metric: str) -> Difference:
    """other - base over the common seeds, in fractions."""
    return paired_difference(pair.differences(metric))


def pair_row(pair: Pair) -> dict[str, Any]:
    """A pair as plain data; the primary metric's figures stand in the row itself."""

    def figures(metric: str) -> dict[str, Any]:
        result = difference(pair, metric)
        interval = None if result.low is None else [result.low, result.high]
        return {
            "delta": pair.differences(metric),
            "mean": result.mean,
            "interval": interval,
            "p_value": result.p_value,
        }

    row: dict[str, Any] = {"base": pair.base.label, "other": pair.other.label, "differs_in": pair.group}
    row |= {"seeds": pair.seeds, "num_seeds": len(pair.seeds), "metric": PRIMARY, **figures(PRIMARY)}
    return row | {metric: figures(metric) for metric in METRICS[1:]}


def table_rows(cells: Sequence[Cell], pairs: Sequence[Pair]) -> list[list[str]]:
    """A row of text for each cell, in the order of `HEADER`; a cell's differences are to its base."""
    rows = []
    for cell in cells:
        found = [pair for pair in pairs if pair.other is cell and pair.seeds]
        differences = [points(difference(found[0], metric)) if found else "" for metric in METRICS]
        seconds, _ = mean_and_spread([run.metrics.get("train_seconds") or 0.0 for run in cell.runs])
        parameters = cell.runs[0].metrics.get("parameters")
        rows.append(
            [
                cell.label,
                str(len(cell.runs)),
                *(percent(cell.values(metric)) for metric in METRICS),
                f"{parameters / 1e6:.2f} M" if parameters else "",
                duration(seconds) if seconds else "",
                *differences,
            ]
        )
    return rows


def percent(values: Sequence[float | None]) -> str:
    """Mean and standard deviation of fractions, in percent."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean, spread = mean_and_spread(known)
    return f"{100 * mean:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")


def points(result: Difference) -> str:
    """A difference of fractions with its interval, in percentage points."""
    if result.low is None or result.high is None:
        return f"{100 * result.mean:+.2f}"
    return f"{100 * result.mean:+.2f} [{100 * result.low:+.2f}, {100 * result.high:+.2f}]"


def duration(seconds: float) -> str:
    """A time that reads well."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def sentence(pair: Pair) -> str:
    """What one pair says, in words that its figures allow."""
    result = difference(pair, PRIMARY)
    moved = f"{100 * result.mean:+.2f} points of pixel accuracy over {pair.base.label}"
    seeds = f"{result.pairs} seed{'s' if result.pairs > 1 else ''}"
    if result.low is None or result.high is None:
        return f"{pair.other.label}: {moved}, from a single seed: too few to tell it from chance."
    interval = f"95 % interval {100 * result.low:+.2f} to {100 * result.high:+.2f}, {seeds}"
    if result.excludes_zero:
        return f"{pair.other.label}: {moved} ({interval}): more than the seeds' own spread explains."
    few = " With so few seeds only a large effect would show." if result.pairs < 5 else ""
    return f"{pair.other.label}: {moved} ({interval}): not distinguishable from chance.{few}"


def by_backbone(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Cells by timm's name of their backbone."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.settings["backbone"]["name"], []).append(cell)
    return groups


def write_tables(folder: Path, cells: Sequence[Cell], pairs: Sequence[Pair]) -> None:
    """ablation.md, ablation.csv and ablation.json."""
    text = io.StringIO()
    for backbone, members in by_backbone(cells).items():
        text.write(f"## {backbone}\n\n| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}\n")
        for row in table_rows(members, pairs):
            text.write(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n")
        text.write("\n")
    text.write("".join(f"{sentence(pair)}\n\n" for pair in pairs if pair.seeds))
    (folder / "ablation.md").write_text(text.getvalue())
    with (folder / "ablation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["backbone", *HEADER])
        for backbone, members in by_backbone(cells).items():
            writer.writerows([backbone, *row] for row in table_rows(members, pairs))
    rows = [pair_row(pair) for pair in pairs if pair.seeds]
    (folder / "ablation.json").write_text(json.dumps(rows, indent=2) + "\n")


def print_tables(cells: Sequence[Cell], pairs: Sequence[Pair]) -> None:
    """The tables and sentences in the terminal, in two tables a backbone so that 80 columns are enough."""
    console = Console()
    for backbone, members in by_backbone(cells).items():
        rows = table_rows(members, pairs)
        split = members[0].runs[0].metrics["split"]
        print_columns(console, f"{backbone}, {split} split", rows, SCORES)
        compared = [row for row in rows if row[DIFFERENCES.start]]
        if compared:
            print_columns(console, "paired difference, in points", compared, DIFFERENCES)
    for pair in pairs:
        if pair.seeds:
            console.print(sentence(pair), highlight=False)


def print_columns(console: Console, title: str, rows: Sequence[Sequence[str]], columns: Iterable[int]) -> None:
    """The network's name and some of the other columns."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column(HEADER[0], overflow="fold")
    for column in columns:
        table.add_column(HEADER[column].removesuffix(" (points)"), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row[0], *(row[column] for column in columns))
    console.print(table)
