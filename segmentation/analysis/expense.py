"""What each network costs on the machine of the report, and what its gain costs."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from segmentation.analysis.cells import Cell
from segmentation.analysis.findings import Finding, points

HEADER = ["network", "image", "parameters", "multiply-adds", "latency ms", "images/s", "peak memory MiB",
          "extra latency ms", "points per ms"]  # fmt: skip


@dataclass(frozen=True)
class Expense:
    """Of one network, for images of one size."""

    size: tuple[int, int]  # height and width of the images
    batch: int
    precision: str
    parameters: int
    multiply_adds: int  # an image
    latencies: Sequence[float]  # milliseconds for one image, a value for each round; all networks ran in every round
    throughput: float  # images a second, in batches
    memory: float | None  # MiB a batch takes at its peak, beside the weights; None where it cannot be measured

    @property
    def latency(self) -> float:
        return float(np.median(self.latencies))


@dataclass(frozen=True)
class Bench:
    """What was measured, on what."""

    device: str
    expenses: Mapping[str, Expense]  # by the cell's label

    def __str__(self) -> str:
        batches, precisions = (
            " or ".join(dict.fromkeys(str(getattr(expense, key)) for expense in self.expenses.values()))
            for key in ("batch", "precision")
        )
        return (
            f"Measured on {self.device}, {precisions}: latency of one image, throughput and peak memory (beside the "
            f"weights) of a batch of {batches}, forward only, medians of rounds in which every network ran."
        )


def extra_latency(base: Expense, other: Expense) -> tuple[float, float, float]:
    """Median of other - base over the rounds, in ms, and the ends of its 95 % interval by order statistics."""
    gaps = np.sort(np.subtract(other.latencies, base.latencies))
    count = len(gaps)
    first = max(0, int(stats.binom.ppf(0.025, count, 0.5)) - 1)
    return float(np.median(gaps)), float(gaps[first]), float(gaps[count - 1 - first])


def expense_rows(cells: Sequence[Cell], findings: Sequence[Finding], bench: Bench) -> list[list[str]]:
    """A row of text for each cell that was measured, in the order of `HEADER`; extras are over its base."""
    rows = []
    for cell in cells:
        expense = bench.expenses.get(cell.label)
        if expense is None:
            continue
        found = [finding for finding in findings if finding.pair.other is cell]
        rows.append(
            [
                cell.label,
                f"{expense.size[0]} x {expense.size[1]}",
                short_count(expense.parameters),
                f"{expense.multiply_adds / 1e9:.2f} G",
                f"{expense.latency:.1f}",
                f"{expense.throughput:.1f}",
                "" if expense.memory is None else f"{expense.memory:.0f}",
                *(price(found[0], bench) if found else ("", "")),
            ]
        )
    return rows


def short_count(count: int) -> str:
    """A number of parameters that reads well."""
    return f"{count / 1e6:.2f} M" if count >= 100_000 else f"{count / 1e3:.1f} k"


def price(finding: Finding, bench: Bench) -> tuple[str, str]:
    """The extra latency of a pair, and the points of pixel accuracy a millisecond of it buys."""
    base, other = (bench.expenses.get(cell.label) for cell in (finding.pair.base, finding.pair.other))
    if base is None or other is None:
        return "", ""
    extra, low, high = extra_latency(base, other)
    text = f"{extra:+.2f} [{low:+.2f}, {high:+.2f}]"
    return text, points(finding.primary.mean / extra) if low > 0 else "not measurably slower"


def as_json(bench: Bench) -> dict[str, Any]:
    """All of it as plain data."""
    return {**asdict(bench), "machine": platform.platform()}
