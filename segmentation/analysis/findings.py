"""What a report may say of each pair of cells: figures, the verdict after Holm's correction, and its sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segmentation.analysis.bootstrap import Spread, Units, find_units, image_bootstrap
from segmentation.analysis.cells import Cell, Pair
from segmentation.analysis.own import monitor_of
from segmentation.analysis.statistics import (
    ALPHA,
    Decision,
    Difference,
    SignFlip,
    decide,
    paired_difference,
    probability,
    seeds_needed,
    sign_flip,
)

PRIMARY = "pixel_accuracy"  # decides; named before any run
METRICS = (PRIMARY, "mean_iou", "mean_accuracy")
NAMES = {PRIMARY: "pixel accuracy", "mean_iou": "mean IoU", "mean_accuracy": "mean accuracy"}


@dataclass(frozen=True)
class Finding:
    """A pair's figures, in fractions."""

    pair: Pair
    differences: Mapping[str, Difference]  # by metric, over the seeds
    signs: Mapping[str, SignFlip]
    images: Mapping[str, Spread] | None  # by metric, over the test images; None without confusion matrices
    units: Units | None
    decision: Decision  # by the primary metric
    folds: Mapping[str, Difference] | None = None  # by metric, over the folds; None where there are none

    @property
    def primary(self) -> Difference:
        return self.differences[PRIMARY]

    @property
    def claimed(self) -> bool:
        """Whether the report calls this pair a difference."""
        return self.decision.corrected.excludes_zero

    @property
    def needed(self) -> int | None:
        """Seeds that would show a difference as large as this one among as many pairs; None where none is in sight."""
        if self.primary.spread is None:
            return None
        return seeds_needed(self.primary.mean, self.primary.spread, ALPHA / self.decision.family)


def judge(pairs: Sequence[Pair]) -> list[Finding]:
    """A finding for each pair that has a common seed, corrected for how many of them can be tested."""
    pairs = [pair for pair in pairs if pair.seeds]
    findings = []
    for pair, decision in zip(pairs, decide([pair.differences(PRIMARY) for pair in pairs]), strict=True):
        deltas = {metric: pair.differences(metric) for metric in METRICS}
        differences = {metric: paired_difference(delta) for metric, delta in deltas.items()}
        signs = {metric: sign_flip(delta) for metric, delta in deltas.items()}
        findings.append(Finding(pair, differences, signs, *over_images(pair), decision, over_folds(pair)))
    return findings


def over_folds(pair: Pair) -> dict[str, Difference] | None:
    """The difference over folds, which share training images, where the pair's runs are of several."""
    if not pair.fold_differences(PRIMARY):
        return None
    overlap = 1 / (pair.base.settings["data"]["folds"] - 1)
    return {metric: paired_difference(pair.fold_differences(metric), overlap=overlap) for metric in METRICS}


def over_images(pair: Pair) -> tuple[dict[str, Spread] | None, Units | None]:
    """The bootstrap over test images, where both cells left their confusion matrices for the same ones."""
    base, other = pair.base.by_seed(), pair.other.by_seed()
    found = [(base[seed].confusions(), other[seed].confusions()) for seed in pair.seeds]
    both = [(before, after) for before, after in found if before is not None and after is not None]
    if not found or len(both) < len(found):
        return None, None
    names = both[0][0].names
    if any(part.names != names for seed in both for part in seed):
        return None, None
    units = find_units(names, pair.base.settings["data"].get("group"))
    before, after = ([part[side].confusion for part in both] for side in (0, 1))
    return {metric: image_bootstrap(before, after, units, metric) for metric in METRICS}, units


def sentence(finding: Finding) -> str:
    """What one pair says, in words that its figures allow."""
    result, pair = finding.primary, finding.pair
    opening = f"{pair.other.label}: {points(result.mean)} points of pixel accuracy over {pair.base.label}"
    if result.low is None or result.high is None:
        return f"{opening}, from one seed: too few to say anything. Five would be a start."
    pooled = f", {pair.num_folds} folds pooled at each" if pair.num_folds else ""
    interval = f"95 % interval {points(result.low)} to {points(result.high)}, {result.pairs} seeds{pooled}"
    if finding.claimed:
        scope = " in trainings on these images" if pair.num_folds else ""
        return f"{opening} ({interval}): more than chance{scope}{corrected_by(finding)}."
    verdict = f"{opening} ({interval}): not to be told from chance{corrected_by(finding)}."
    needed = finding.needed
    if needed is None:
        return f"{verdict} No number of seeds up to 1000 would be likely to show a difference this small."
    if needed > result.pairs:
        return (
            f"{verdict} {result.pairs} seeds are too few to say anything of a difference this size; {needed} would do."
        )
    return verdict


def corrected_by(finding: Finding) -> str:
    """How the p value came about, where more than one pair was tested."""
    if (p := finding.decision.adjusted_p) is None:
        return ""
    how = f", corrected for {finding.decision.family} comparisons" if finding.decision.family > 1 else ""
    return f" (p = {probability(p)}{how})".replace("= <", "< ")


def images_sentence(finding: Finding) -> str:
    """What the test images say of a pair, told apart from what the seeds say."""
    if finding.images is None or finding.units is None:
        return ""
    spread = finding.images[PRIMARY]
    text = (
        f"{finding.pair.other.label} - {finding.pair.base.label}: drawn anew from {finding.units.words}, "
        "the same trained networks differ by "
        f"{points(spread.low)} to {points(spread.high)} points (95 %)."
    )
    if finding.primary.spread is not None:
        between = f"±{100 * finding.primary.spread:.2f} between seeds, ±{100 * spread.deviation:.2f} between such draws"
        text += f" The difference varies by {between}."
    return text if finding.units.other_videos else f"{text} It speaks for these videos only."


def folds_sentence(finding: Finding) -> str:
    """What the folds say of a pair: of other images, where the seeds speak for other trainings on these."""
    if finding.folds is None or (result := finding.folds[PRIMARY]).low is None or result.high is None:
        return ""
    count = len(finding.pair.seeds)
    verdict = "more than chance" if result.excludes_zero else "not to be told from chance"
    return (
        f"{finding.pair.other.label} - {finding.pair.base.label}: over {result.pairs} folds, each the mean of {count} "
        f"seed{'s' * (count > 1)}, {points(result.low)} to {points(result.high)} points (95 %, corrected for the "
        f"training images that folds share; Nadeau and Bengio, 2003): for other images to train and test on, {verdict}."
    )


def own_sentence(cells: Sequence[Cell]) -> list[str]:
    """What each network has of its own, and by what it was chosen; nothing where there is no such setting."""
    named = ", ".join(f"{cell.label} {cell.own}" for cell in cells if cell.own)
    if not named:
        return []
    chosen = [cell for cell in cells if cell.own and len(cell.own.tried) > 1]
    monitors = " or ".join(dict.fromkeys(monitor_of(cell.runs[0]) for cell in chosen))
    how = f"where several were tried, by the mean over seeds of the best {monitors}" if chosen else "as it was given"
    text = f"Of its own each network has, {how}: {named}."
    if len({len(cell.own.tried) for cell in cells if cell.own}) > 1:
        text += " Not all had as many to choose from, which favours those that had more."
    if any(cell.runs[0].metrics["split"] == "val" for cell in chosen):
        text += " They were chosen on the images that all scores here are of, which flatters whatever had a choice."
    return [text]


def points(fraction: float) -> str:
    """A difference of fractions in percentage points."""
    return f"{100 * fraction:+.2f}"


def as_row(finding: Finding) -> dict[str, Any]:
    """A finding as plain data for JSON; the primary metric's figures stand in the row itself."""

    def figures(metric: str) -> dict[str, Any]:
        result, signs = finding.differences[metric], finding.signs[metric]
        row: dict[str, Any] = {"delta": finding.pair.differences(metric), "mean": result.mean, "spread": result.spread}
        row["interval"] = None if result.low is None else [result.low, result.high]
        row |= {"p_value": result.p_value, "sign_flip_p": signs.p_value, "sign_flip_smallest_p": signs.smallest}
        if finding.images is not None and finding.units is not None:
            image = finding.images[metric]
            row["images"] = {"interval": [image.low, image.high], "spread": image.deviation}
            row["images"] |= {"units": finding.units.words, "speaks_for_other_videos": finding.units.other_videos}
        if finding.folds is not None:
            fold = finding.folds[metric]
            row["folds"] = {"delta": finding.pair.fold_differences(metric), "interval": [fold.low, fold.high]}
            row["folds"] |= {"p_value": fold.p_value, "test": "corrected resampled t (Nadeau and Bengio, 2003)"}
        return row

    pair = finding.pair
    row: dict[str, Any] = {"base": pair.base.label, "other": pair.other.label, "differs_in": pair.group}
    row |= {"seeds": pair.seeds, "num_seeds": len(pair.seeds)}
    row |= {"unit": "seed, its folds pooled" if pair.num_folds else "seed"}
    row |= {"own": {cell.label: dict(cell.own.best.own) for cell in (pair.base, pair.other) if cell.own}}
    row |= {"metric": PRIMARY, **figures(PRIMARY)}
    row |= {"holm_p": finding.decision.adjusted_p, "comparisons": finding.decision.family}
    row |= {"claimed": finding.claimed, "alpha": ALPHA}
    low, high = finding.decision.corrected.low, finding.decision.corrected.high
    row |= {"corrected_interval": None if low is None else [low, high], "seeds_needed": finding.needed}
    return row | {metric: figures(metric) for metric in METRICS[1:]}
