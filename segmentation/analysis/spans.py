"""Differences with their intervals, a line each: all pairs of a report in one figure, or all classes of a pair."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segmentation.analysis.findings import NAMES, PRIMARY, Finding
from segmentation.analysis.plots import words

SEED, MEAN, UNSURE = "#8c959f", "#0969da", "#57606a"


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
        if span.interval:
            axes.plot(100 * np.array(span.interval), [position] * 2, color=colour, linewidth=1.6)
        axes.plot(
            100 * span.mean, position, "o", color=colour, markersize=5.5, fillstyle="full" if span.sure else "none"
        )
        axes.plot(100 * np.array(span.seeds), [position] * len(span.seeds), "|", color=SEED, markersize=9)
    axes.axvline(0, color="#24292f", linewidth=0.8)
    axes.set_yticks(range(len(spans)), [words(span.name) for span in spans])
    axes.tick_params(axis="y", length=0, labelsize=8.5)
    axes.tick_params(axis="x", labelsize=8.5)
    axes.set_title(words(title), loc="left", fontweight="bold", fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#d8dee4", linewidth=0.6)
    axes.set_axisbelow(True)


def draw_gains(findings: Sequence[Finding]) -> Figure:
    """All pairs of a report: what each gains in pixel accuracy and in mean IoU."""
    figure = Figure(figsize=(9, 0.3 * len(findings) + 1.1), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, metric in zip(panels, (PRIMARY, "mean_iou"), strict=True):
        draw_spans(axes, NAMES[metric], [span_of(finding, metric) for finding in findings])
        axes.set_xlabel("points", fontsize=8.5)
    panels[0].set_ylim(len(findings) - 0.4, -0.6)  # the first on top
    return figure


def span_of(finding: Finding, metric: str) -> Span:
    """A pair's difference over the seeds; the primary metric is sure where the report calls it more than chance."""
    result, pair = finding.differences[metric], finding.pair
    known = None if result.low is None or result.high is None else (result.low, result.high)
    sure = finding.claimed if metric == PRIMARY else result.excludes_zero
    return Span(f"{pair.other.label} - {pair.base.label}", result.mean, known, pair.differences(metric), sure)
