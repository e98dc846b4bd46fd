"""Where a pair's difference comes from: classes, kinds of pixels, and images, each with an interval over the images.

There is no p value over pixels: those of an image depend on one another, so whole images or blocks of them are drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.progress import track

from segmentation.analysis.bootstrap import Spread, Units, draw, find_units, spread_of
from segmentation.analysis.cells import Pair
from segmentation.analysis.metrics import iou
from segmentation.analysis.runs import Run
from segmentation.analysis.statistics import paired_difference
from segmentation.analysis.strata import Stratum, boundary_distance, region_size, scan_position
from segmentation.analysis.tally import Counts, SampleOf, Tally, count_image, image_names

Values = npt.NDArray[np.float64]


class Change(NamedTuple):
    """How a score changes for one class or band, in fractions."""

    name: str
    share: float  # of the labelled pixels
    seeds: list[float]  # the change at each seed
    mean: float
    images: Spread

    @property
    def stands_out(self) -> bool:
        """Whether the interval over images and the t interval over seeds both leave out zero."""
        over_seeds = paired_difference(self.seeds)
        return (self.images.low > 0 or self.images.high < 0) and over_seeds.excludes_zero


@dataclass(frozen=True)
class Where:
    """What is known of where a pair differs."""

    pair: Pair
    units: Units
    classes: list[Change]  # in IoU
    strata: Mapping[str, list[Change]]  # in pixel accuracy, by the stratum's title
    repaired: Values  # of an image's labelled pixels, mean over seeds [images]
    broken: Values
    totals: Mapping[str, tuple[float, Spread]]  # repaired, broken: of all labelled pixels


def examine(pairs: Sequence[Pair], sample_of: SampleOf) -> list[Where]:
    """Read every prediction once, and say where each pair differs.

    Args:
        pairs: as `comparable` has them.
        sample_of: a test image and its mask by name.

    Raises:
        OSError, ValueError: where a run's predictions are not there or not of these images.
    """
    if not pairs:
        return []
    names = image_names(pairs[0])
    general, scans = [boundary_distance(), region_size()], scan_strata(pairs)
    strata = [general + scans.get(scanning(pair), []) for pair in pairs]
    tally = Tally()
    for name in track(names, "reading predictions", transient=True):
        count_image(tally, pairs, strata, name, sample_of(name)[1])
    if len(tally.shapes) > 1 and pairs[0].base.settings["data"].get("size") is None:
        strata = [general for _ in pairs]  # the network saw maps of several shapes, and its scan is known on one only
    return [summarise(tally, position, pair, strata[position], names) for position, pair in enumerate(pairs)]


def comparable(pairs: Sequence[Pair]) -> tuple[list[Pair], list[str]]:
    """The pairs whose runs all counted the same images, and why the others are left out."""
    usable: list[Pair] = []
    reasons = []
    for pair in pairs:
        try:
            if usable and image_names(pair) != image_names(usable[0]):
                raise FileNotFoundError("other images were tested")
            image_names(pair)
            usable.append(pair)
        except FileNotFoundError as error:
            reasons.append(f"{pair.other.label} - {pair.base.label} ({error})")
    return usable, reasons


def scanning(pair: Pair) -> str:
    """Label of the cell of a pair that scans, or that came in its place."""
    return (pair.other if pair.other.role == "lstm" or pair.base.role == "none" else pair.base).label


def scan_strata(pairs: Sequence[Pair]) -> dict[str, list[Stratum]]:
    """For each cell that scans and left its analysis, a stratum for each of its orders, by the cell's label."""
    found = {}
    for cell in {cell.label: cell for pair in pairs for cell in (pair.base, pair.other)}.values():
        arrays = cell.runs[0].analysis()
        if arrays is not None and "steps" in arrays:
            layouts = zip(arrays["orders"].tolist(), arrays["sequences"], arrays["steps"], strict=True)
            found[cell.label] = [scan_position(*layout, arrays["cover"].tolist()) for layout in layouts]
    return found


def summarise(tally: Tally, position: int, pair: Pair, strata: Sequence[Stratum], names: Sequence[str]) -> Where:
    """A pair's differences out of what was counted."""
    units = find_units(names, pair.base.settings["data"].get("group"))
    labelled = np.asarray(tally.labelled)
    by_stratum = {}
    for stratum in strata:
        pixels = np.stack(tally.pixels[stratum])
        base, other = (
            [np.stack(tally.correct[cell.by_seed()[seed].folder, stratum]) for seed in pair.seeds]
            for cell in (pair.base, pair.other)
        )
        by_stratum[stratum.title] = changes(stratum.bands, base, other, pixels, units)
    shares, totals = {}, {}
    for kind in ("repaired", "broken"):
        counted = np.mean([tally.changed[position, seed, kind] for seed in pair.seeds], 0)
        shares[kind] = counted / np.maximum(labelled, 1)
        drawn = draw(counted, units) / draw(labelled, units)
        totals[kind] = (float(counted.sum() / labelled.sum()), spread_of(drawn, units))
    return Where(pair, units, class_changes(pair, units), by_stratum, shares["repaired"], shares["broken"], totals)


def changes(
    bands: Sequence[str], base: Sequence[Counts], other: Sequence[Counts], pixels: Counts, units: Units
) -> list[Change]:
    """The change of accuracy in each band that has pixels.

    Args:
        bands: their names.
        base: for each seed, the right pixels [images, bands].
        other: of the other network.
        pixels: all labelled ones [images, bands].
        units: of images.
    """
    total = pixels.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        seeds = [(after - before).sum(0) / total for before, after in zip(base, other, strict=True)]
        gained = np.mean([after - before for before, after in zip(base, other, strict=True)], 0)
        drawn = draw(gained, units) / draw(pixels, units)
    return [
        as_change(name, total[band] / total.sum(), seeds, spread_of(drawn[:, band], units), band)
        for band, name in enumerate(bands)
        if total[band]
    ]


def class_changes(pair: Pair, units: Units) -> list[Change]:
    """The change of IoU of each class that the split has."""
    cells = [pair.base.by_seed(), pair.other.by_seed()]
    seeds, drawn = [], []
    for seed in pair.seeds:
        before, after = (iou_parts(cell[seed]) for cell in cells)
        seeds.append(iou(after.sum(0)) - iou(before.sum(0)))
        drawn.append(iou(draw(after, units)) - iou(draw(before, units)))
    truth = iou_parts(cells[0][pair.seeds[0]])[:, 1].sum(0)
    averaged = np.mean(drawn, 0)
    classes = pair.base.settings["data"]["classes"]
    return [
        as_change(name, truth[label] / truth.sum(), seeds, spread_of(averaged[:, label], units), label)
        for label, name in enumerate(classes)
        if truth[label]
    ]


def iou_parts(run: Run) -> Counts:
    """Right, true and predicted pixels of each class in each image [images, 3, C]."""
    counted = run.confusions()
    assert counted is not None
    confusion = counted.confusion
    return np.stack([np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(2), confusion.sum(1)], 1)


def as_change(name: str, share: float, seeds: Sequence[Values], images: Spread, index: int) -> Change:
    values = [float(seed[index]) for seed in seeds]
    return Change(name, float(share), values, float(np.mean(values)), images)


def as_rows(found: Sequence[Where]) -> list[dict[str, Any]]:
    """All of it as plain data for JSON."""
    rows = []
    for where in found:
        pair = {"base": where.pair.base.label, "other": where.pair.other.label, "over": where.units.words}
        for title, changed in {"Class (IoU)": where.classes, **where.strata}.items():
            rows += [
                {**pair, "by": title, "band": change.name, "share": change.share, "change": change.mean,
                 "seeds": change.seeds, "interval": [change.images.low, change.images.high]}
                for change in changed
            ]  # fmt: skip
        for kind, (total, spread) in where.totals.items():
            rows.append(
                {**pair, "by": "all pixels", "band": kind, "change": total, "interval": [spread.low, spread.high]}
            )
    return rows
