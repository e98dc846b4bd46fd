"""Differences with their intervals, a line each: all pairs of a report in one figure, or all classes of a pair."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segmentation.analysis.findings import NAMES, PRIMARY, Finding
from segmentation.analysis.plots import words
from segmentation.analysis.statistics import decide

SEED, MEAN, UNSURE = "#8c959f", "#0969da", "#57606a"
LETTERS = 46  # of a pair's name in a line


class Span(NamedTuple):
    """A difference of fractions."""

    name: str
    mean: float
    interval: tuple[float, float] | None  # None of one seed
    seeds: Sequence[float]
    sure: bool


def draw_spans(axes: Axes, title: str, spans: Sequence[Span]) -> None:
    """Mean, interval and seeds, in points, a line for each span from the top; filled where it is sure."""
    for position, span in enumerate(spans):
        colour = MEAN if span.sure else UNSURE
        axes.plot(100 * np.array(span.seeds), [position] * len(span.seeds), "|", color=SEED, markersize=9)
        if span.interval:
            axes.plot(100 * np.array(span.interval), [position] * 2, color=colour, linewidth=1.6)
        axes.plot(
            100 * span.mean,
            position,
            "o",
            color=colour,
            markersize=5.5,
            markerfacecolor=colour if span.sure else "white",
        )
    axes.axvline(0, color="#24292f", linewidth=0.8, zorder=1)
    axes.set_yticks(range(len(spans)), [words(span.name) for span in spans])
    axes.tick_params(axis="y", length=0, labelsize=8.5)
    axes.tick_params(axis="x", labelsize=8.5)
    axes.set_title(words(title), loc="left", fontweight="bold", fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#d8dee4", linewidth=0.6)
    axes.set_axisbelow(True)


def draw_gains(findings: Sequence[Finding]) -> Figure:
    """All pairs of a report: what each gains in pixel accuracy and in mean IoU, Holm's correction in each."""
    names = [textwrap.fill(pair_name(finding), LETTERS) for finding in findings]
    lines = max(name.count("\n") + 1 for name in names)
    figure = Figure(figsize=(10, (0.13 + 0.17 * lines) * len(findings) + 0.85), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, metric in zip(panels, (PRIMARY, "mean_iou"), strict=True):
        spans = spans_of(findings, names, metric)
        draw_spans(axes, NAMES[metric], spans)
        seen = [100 * value for span in spans for value in (*span.seeds, 0.0)]
        seen += [100 * end for span in spans if span.interval and len(span.seeds) > 2 for end in span.interval]
        margin = 0.06 * (max(seen) - min(seen)) or 1.0
        axes.set_xlim(min(seen) - margin, max(seen) + margin)  # of two seeds an interval may be wider than all else
        axes.set_xlabel("points", fontsize=8.5)
    panels[0].set_ylim(len(findings) - 0.4, -0.6)  # the first on top
    return figure


def spans_of(findings: Sequence[Finding], names: Sequence[str], metric: str) -> list[Span]:
    """The pairs' differences over the seeds in a metric."""
    deltas = [finding.pair.differences(metric) for finding in findings]
    spans = []
    for finding, name, delta, decision in zip(findings, names, deltas, decide(deltas), strict=True):
        result = finding.differences[metric]
        known = None if result.low is None or result.high is None else (result.low, result.high)
        spans.append(Span(name, result.mean, known, delta, decision.corrected.excludes_zero))
    return spans


def pair_name(finding: Finding) -> str:
    """What the pair differs in, behind what both networks share: `resnet50: zigzag - none`."""
    other, base = (cell.label.split() for cell in (finding.pair.other, finding.pair.base))
    shared = [word for word in other if word in base]
    one, two = (" ".join(word for word in label if word not in shared) for label in (other, base))
    return " ".join(shared) + ": " * bool(shared) + f"{one} - {two}"
