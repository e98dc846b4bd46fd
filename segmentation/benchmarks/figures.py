"""What a benchmark found, as rows that can be printed, written and drawn."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from segmentation.runfiles import write_json
from segmentation.whole import write_text

COLUMNS = ("part", "what", "median", "least", "most", "unit", "wanted")


@dataclass(frozen=True)
class Finding:
    """A quantity of one subject, measured several times."""

    part: str  # of the benchmark
    subject: str
    unit: str
    values: Sequence[float]  # one for each repetition
    at_least: float | None = None  # what is wanted of the median
    at_most: float | None = None

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median is as wanted; None where nothing is."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return None if self.at_most is None else self.median <= self.at_most

    def row(self) -> list[str]:
        """Its cells under `COLUMNS`."""
        bound = f">= {self.at_least:g}" if self.at_least is not None else ""
        bound = f"<= {self.at_most:g}" if self.at_most is not None else bound
        verdict = "" if self.met is None else f"{bound} {'met' if self.met else 'missed'}"
        return [
            self.part,
            self.subject,
            *map(short, (self.median, min(self.values), max(self.values))),
            self.unit,
            verdict,
        ]


def ratio(
    over: Finding, under: Finding, subject: str, *, at_least: float | None = None, at_most: float | None = None
) -> Finding:
    """How many times one is the other, repetition by repetition: what slows the machine down slows both."""
    values = [one / other for one, other in zip(over.values, under.values, strict=True)]
    return Finding(over.part, subject, "times", values, at_least, at_most)


def short(value: float) -> str:
    """Three figures, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write(findings: Sequence[Finding], machine: dict[str, Any], folder: Path) -> None:
    """`benchmark.json` and `benchmark.md`."""
    rows = [asdict(finding) | {"median": finding.median, "met": finding.met} for finding in findings]
    write_json(folder / "benchmark.json", {"machine": machine, "findings": rows})
    lines = [f"{key}: {value}  " for key, value in machine.items()]
    lines += ["", f"| {' | '.join(COLUMNS)} |", "|---|---|---:|---:|---:|---|---|"]
    lines += [f"| {' | '.join(finding.row())} |" for finding in findings]
    write_text(folder / "benchmark.md", "\n".join(lines) + "\n")


def show(findings: Sequence[Finding]) -> None:
    """The table, in the terminal."""
    table = Table(box=None)
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in ("median", "least", "most") else "left", no_wrap=True)
    part = ""
    for finding in findings:
        own, *cells = finding.row()
        table.add_row("" if own == part else own, *cells)
        part = own
    console = Console()
    console.width = max(console.width, 132)  # a long line is easier to read than a cell in five pieces
    console.print(table)
