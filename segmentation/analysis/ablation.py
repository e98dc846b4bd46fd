"""The ablation's tables: cells, and the differences between them. Written as Markdown, CSV, JSON, and to a terminal."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from segmentation.analysis.cells import Cell
from segmentation.analysis.context import context_or_capacity
from segmentation.analysis.expense import short_count
from segmentation.analysis.findings import (
    METRICS,
    NAMES,
    PRIMARY,
    Finding,
    as_row,
    folds_sentence,
    own_sentence,
    points,
    sentence,
)
from segmentation.analysis.statistics import Difference, mean_and_spread, probability
from segmentation.markdown import as_text
from segmentation.printable import printable
from segmentation.whole import whole, write_text

HEADER = ["network", "seeds", "accuracy %", "mean IoU %", "mean accuracy %", "parameters", "training",
          "Δ accuracy (points)", "Δ mean IoU (points)"]  # fmt: skip
SCORES, DIFFERENCES = (1, 2, 3, 5, 6), (7, 8)  # columns of the two tables in the terminal
FINDINGS = ["compared", "in", "Δ (points)", "95 % over seeds", "95 % over images", "p", "corrected p",
            "sign-flip p (least possible)", "seeds needed"]  # fmt: skip


def table_rows(cells: Sequence[Cell], findings: Sequence[Finding]) -> list[list[str]]:
    """A row of text for each cell, in the order of `HEADER`; a cell's differences are to its base."""
    rows = []
    for cell in cells:
        found = [finding for finding in findings if finding.pair.other is cell]
        differences = [with_interval(found[0].differences[metric]) if found else "" for metric in METRICS[:2]]
        seconds, _ = mean_and_spread([run.metrics.get("train_seconds") or 0.0 for run in cell.runs])
        parameters = cell.runs[0].metrics.get("parameters")
        rows.append(
            [
                cell.label,
                str(len(cell.runs)),
                *(percent(cell.values(metric)) for metric in METRICS),
                short_count(parameters) if parameters else "",
                duration(seconds) if seconds else "",
                *differences,
            ]
        )
    return rows


def finding_rows(findings: Sequence[Finding]) -> list[list[str]]:
    """A row of text for each pair and metric, in the order of `FINDINGS`; only the primary metric is corrected."""
    rows = []
    for finding in findings:
        for metric in METRICS:
            result, signs = finding.differences[metric], finding.signs[metric]
            images = finding.images[metric] if finding.images else None
            decides = metric == PRIMARY
            rows.append(
                [
                    f"{finding.pair.other.label} - {finding.pair.base.label}",
                    NAMES[metric],
                    points(result.mean),
                    interval(result.low, result.high),
                    interval(images.low, images.high) if images else "",
                    probability(result.p_value),
                    probability(finding.decision.adjusted_p) if decides else "",
                    f"{signs.p_value:.3f} ({signs.smallest:.3f})" if result.pairs > 1 else "",
                    (str(finding.needed or "over 1000") if result.spread is not None else "") if decides else "",
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


def with_interval(result: Difference) -> str:
    """A difference of fractions with its interval, in percentage points."""
    return f"{points(result.mean)} {interval(result.low, result.high)}".strip()


def interval(low: float | None, high: float | None) -> str:
    """The ends of an interval of fractions, in percentage points."""
    return "" if low is None or high is None else f"[{points(low)}, {points(high)}]"


def duration(seconds: float) -> str:
    """A time that reads well."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def by_backbone(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Cells by timm's name of their backbone."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.settings["backbone"]["name"], []).append(cell)
    return groups


def write_tables(folder: Path, cells: Sequence[Cell], findings: Sequence[Finding]) -> None:
    """ablation.md, ablation.csv and ablation.json."""
    text = io.StringIO()
    for backbone, members in by_backbone(cells).items():
        text.write(f"## {as_text(backbone)}\n\n{markdown(HEADER, table_rows(members, findings))}\n")
    if findings:
        text.write(f"## Differences\n\n{markdown(FINDINGS, finding_rows(findings))}\n")
    text.write("".join(f"{as_text(line)}\n\n" for line in sentences(cells, findings)))
    write_text(folder / "ablation.md", text.getvalue())
    with whole(folder / "ablation.csv") as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["backbone", *HEADER])
        for backbone, members in by_backbone(cells).items():
            writer.writerows([backbone, *row] for row in table_rows(members, findings))
    write_text(folder / "ablation.json", json.dumps([as_row(finding) for finding in findings], indent=2) + "\n")


def sentences(cells: Sequence[Cell], findings: Sequence[Finding]) -> list[str]:
    """What the report says, in words."""
    folds = [text for finding in findings if (text := folds_sentence(finding))]
    return [
        *(sentence(finding) for finding in findings),
        *context_or_capacity(findings),
        *folds,
        *own_sentence(cells),
    ]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(as_text(cell) for cell in line)} |\n" for line in lines)


def print_tables(cells: Sequence[Cell], findings: Sequence[Finding]) -> None:
    """The tables and sentences in the terminal, in two tables a backbone so that 80 columns are enough."""
    console = Console(markup=False)  # labels hold brackets
    for backbone, members in by_backbone(cells).items():
        rows = table_rows(members, findings)
        split = members[0].runs[0].metrics["split"]
        print_columns(console, f"{printable(backbone)}, {printable(split)} split", rows, SCORES)
        compared = [row for row in rows if row[DIFFERENCES[0]]]
        if compared:
            print_columns(console, "paired difference, in points", compared, DIFFERENCES)
    for text in sentences(cells, findings):
        console.print(printable(text), highlight=False)


def print_columns(console: Console, title: str, rows: Sequence[Sequence[str]], columns: Iterable[int]) -> None:
    """The network's name and some of the other columns."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column(HEADER[0], overflow="fold")
    for column in columns:
        table.add_column(HEADER[column].removesuffix(" (points)"), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(printable(row[0]), *(row[column] for column in columns))
    console.print(table)
