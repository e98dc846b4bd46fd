"""The benchmark's findings as one picture."""

import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from segmentation.analysis import plots
from segmentation.benchmarks.figures import Finding

COLOURS = {"this project": "#0969da", "bare loop": "#8c959f", "peer": "#bf3989"}
LINES = ["#0969da", "#1a7f37", "#bf3989", "#9a6700", "#8250df", "#57606a"]


def draw(findings: Sequence[Finding], folder: Path) -> None:
    """`benchmark.png`: images a second, the LSTM's share of a step, and how its time and memory grow."""
    figure = Figure(figsize=(12, 7.2), layout="constrained")
    rates, shares, times, memory = figure.subplots(2, 2).flat
    draw_rates(rates, findings)
    draw_shares(shares, findings)
    draw_growth(times, findings, "ms", "time of a pass forward and backward, ms")
    draw_growth(memory, findings, "MiB", "memory of a pass forward and backward, MiB")
    plots.save(figure, folder / "benchmark.png")


def draw_rates(axes: Axes, findings: Sequence[Finding]) -> None:
    """Bars of images a second, with the range of the repetitions."""
    found = [finding for finding in findings if finding.subject in COLOURS and finding.unit == "images/s"]
    parts = list(dict.fromkeys(finding.part for finding in found))
    for number, (name, colour) in enumerate(COLOURS.items()):
        for finding in (one for one in found if one.subject == name):
            place = parts.index(finding.part) + 0.27 * (number - 1)
            spread = [[finding.median - min(finding.values)], [max(finding.values) - finding.median]]
            label = name if finding.part == parts[0] else None
            axes.bar(place, finding.median, 0.25, color=colour, yerr=spread, ecolor="#24292f", label=label)
            axes.annotate(
                f"{finding.median:.3g}", (place, finding.median), (3, 2), textcoords="offset points", fontsize=8
            )
    axes.set_xticks(range(len(parts)), parts)
    axes.set_title("images a second", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    plots.tidy(axes)


def draw_shares(axes: Axes, findings: Sequence[Finding]) -> None:
    """Lines of the LSTM's share of a training step over the stride: each order with the first cell, each cell with the
    first order.
    """
    lines: dict[str, list[tuple[int, float]]] = {}
    for finding in findings:
        stride = re.fullmatch(r"LSTM at stride (\d+)", finding.part)
        name, _, what = finding.subject.partition(": ")
        if stride and what == "share of a step":
            lines.setdefault(name, []).append((int(stride[1]), finding.median))
    first = next(iter(lines), "").split(", ")
    shown = {name: points for name, points in lines.items() if set(name.split(", ")) & set(first)}
    for number, (name, points) in enumerate(shown.items()):
        style = "-" if number < len(LINES) else "--"
        axes.plot(*zip(*points, strict=True), style, color=LINES[number % len(LINES)], marker="o", ms=3, label=name)
    if shown:
        axes.set_xscale("log", base=2)
        plain_log(axes)
        strides = [stride for stride, _ in next(iter(shown.values()))]
        axes.set_xticks(strides, [str(stride) for stride in strides])
        axes.invert_xaxis()
        axes.legend(frameon=False, fontsize=7, ncols=2)
    axes.set_xlabel("pixels to a position")
    axes.set_title("the LSTM's share of a training step, %", fontsize=10)
    plots.tidy(axes)


def draw_growth(axes: Axes, findings: Sequence[Finding], unit: str, title: str) -> None:
    """Lines of a quantity over the positions of the map, on two logarithmic axes: linear growth rises by one in one."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for finding in findings:
        counted = re.fullmatch(r"(.+), (\d+) positions(, memory)?", finding.subject)
        if finding.part == "growth" and counted and finding.unit == unit:
            lines.setdefault(counted[1], []).append((int(counted[2]), finding.median))
    for (name, points), colour in zip(lines.items(), LINES, strict=False):
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", ms=3, label=name)
    if lines:
        axes.set_xscale("log")
        plain_log(axes)
        axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel("positions")
    axes.set_title(title, fontsize=10)
    plots.tidy(axes)


def plain_log(axes: Axes) -> None:
    """A logarithmic axis upwards whose ticks read 1, 2, 5, 10 and so on."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
