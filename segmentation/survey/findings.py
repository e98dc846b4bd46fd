"""What the facts mean: errors, with which training or its figures would be wrong, and warnings."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segmentation.data.checks import BINARY, VOID, find_darkness
from segmentation.survey.duplicates import nearly_the_same, same
from segmentation.survey.facts import Colour, Fact

SHOWN = 5  # examples of each finding in the terminal; the JSON has all
ODD = 0.02  # share of a label's masks that may have another palette colour without a word


@dataclass
class Finding:
    """Something to know, and the samples that show it."""

    kind: str
    error: bool
    message: str
    examples: list[str]

    def text(self) -> str:
        """The message with the first examples."""
        more = f" and {len(self.examples) - SHOWN} more" if len(self.examples) > SHOWN else ""
        return f"{self.message}: {', '.join(self.examples[:SHOWN])}{more}" if self.examples else self.message


@dataclass
class Survey:
    """All that was found out about a data set.

    Attributes:
        facts: of every sample.
        classes: their names.
        colours: theirs.
        ignore_index: label of void pixels.
        groups: video of every name of a split, or None where the data set does not say.
        white: stored value of 16 bits that means 1.0, or one of each channel.
    """

    facts: Sequence[Fact]
    classes: Sequence[str]
    colours: Sequence[Sequence[int]]
    ignore_index: int
    groups: Callable[[Sequence[str]], Sequence[str] | None]
    white: int | Sequence[int] | None = None

    def of(self, split: str) -> list[Fact]:
        """The facts of one split's samples that could be read."""
        return [fact for fact in self.facts if fact.split == split and fact.problem is None]

    @property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(fact.split for fact in self.facts))

    def pixels(self, split: str) -> npt.NDArray[np.int64]:
        """Pixels of each label 0...255 in a split."""
        total = np.zeros(256, np.int64)
        for fact in self.of(split):
            total += fact.pixels
        return total


def unreadable(survey: Survey) -> list[Finding]:
    """Samples that cannot be used: they would end a training."""
    problems = [str(fact.problem) for fact in survey.facts if fact.problem is not None]
    return [Finding("unreadable", True, f"{len(problems)} samples cannot be used", problems)] if problems else []


def labels(survey: Survey) -> list[Finding]:
    """Classes without pixels, masks that are void, and 0/255 masks read as labels."""
    found = []
    for split in survey.splits:
        pixels = survey.pixels(split)
        absent = [name for name, count in zip(survey.classes, pixels, strict=False) if not count]
        facts = survey.of(split)
        if facts and absent == list(survey.classes[1:]) and survey.ignore_index == 255 and pixels[255]:
            found.append(Finding("binary", split == "train", f"{split}: {BINARY}", []))
        elif facts and len(absent) == len(survey.classes):
            found.append(Finding("void", split in ("train", "val"), f"{split}: {VOID}", []))
        elif absent and facts:
            found.append(
                Finding(
                    "empty class",
                    False,
                    f"{split}: no pixel is of {len(absent)} classes, which its means leave out",
                    absent,
                )
            )
        void = [fact.name for fact in facts if fact.pixels[survey.ignore_index] == fact.pixels.sum()]
        if void:
            found.append(Finding("void", False, f"{split}: {len(void)} masks are void throughout", void))
    return found


def palettes(survey: Survey) -> list[Finding]:
    """Masks whose palettes say that their indices are no labels."""
    colours: dict[int, Counter[Colour]] = defaultdict(Counter)
    for fact in survey.facts:
        for label, colour in fact.palette.items():
            colours[label][colour] += 1
    cure = "if colours and not indices are the classes, set data.reader.masks=colours"
    found = []
    for label, counts in sorted(colours.items()):
        usual, times = counts.most_common(1)[0]
        if counts.total() - times > ODD * counts.total():
            strange = [f.name for f in survey.facts if f.palette.get(label, usual) != usual]
            message = f"masks disagree on the palette's colour of index {label}; {cure}"
            found.append(Finding("palette", False, message, strange))
    order = {tuple(colour): label for label, colour in enumerate(survey.colours)}
    swapped = [
        f"index {label} has the colour of {survey.classes[order[usual]]}"
        for label, counts in sorted(colours.items())
        if (usual := counts.most_common(1)[0][0]) in order and order[usual] != label and label < len(survey.classes)
    ]
    if swapped:
        found.append(Finding("palette", False, f"palettes do not fit data.colours; {cure}", swapped))
    return found


def sizes(survey: Survey) -> list[Finding]:
    """How images differ in size, where they do."""
    count = Counter(fact.size for fact in survey.facts if fact.problem is None)
    if len(count) < 2:
        return []
    listed = [f"{width}x{height} ({times})" for (height, width), times in count.most_common()]
    return [Finding("sizes", False, f"{len(count)} sizes; with data.size=null they cannot share a batch", listed)]


def darkness(survey: Survey) -> list[Finding]:
    """Images of 16 bits that use few of them, so that all is dark or even black, or that `data.white` cuts off."""
    facts = [fact for fact in survey.facts if fact.problem is None]
    if survey.white is None:
        darkness = find_darkness([fact.peak for fact in facts])
        if darkness is None:
            return []
        brightest = facts[darkness.brightest]
        return [Finding("dark", darkness.black, darkness.text(f"{brightest.split}/{brightest.name}"), [])]
    deep = [fact for fact in facts if fact.peaks]
    peak = max((max(fact.peaks) for fact in deep), default=0)
    cut = [fact.name for fact in deep if (np.array(fact.peaks) > survey.white).any()]
    message = f"{len(cut)} images store more than data.white, up to {peak}, which becomes 1.0"
    return [Finding("cut off", False, message, cut)] if cut else []


def leaks(survey: Survey) -> list[Finding]:
    """Images, and videos, that are in the training and in what it is judged by."""
    found = []
    for pairs, error, words in (
        (same(survey.facts), True, "the same image"),
        (nearly_the_same(survey.facts), False, "nearly the same image"),
    ):
        across = [pair for pair in pairs if pair.leaks]
        judged = error and any("train" in (pair.first[0], pair.second[0]) for pair in across)
        listed = [f"{'/'.join(pair.first)} = {'/'.join(pair.second)}" for pair in across]
        if across:
            found.append(Finding("leak", judged, f"{words} in two splits, {len(across)} times", listed))
        if within := [f"{'/'.join(p.first)} = {'/'.join(p.second)}" for p in pairs if not p.leaks]:
            found.append(Finding("duplicates", False, f"{words} twice in a split, {len(within)} times", within))
    return found + shared_groups(survey)


def shared_groups(survey: Survey) -> list[Finding]:
    """Videos with frames in two splits."""
    groups: dict[str, Counter[str]] = {}
    for split in survey.splits:
        names = [fact.name for fact in survey.facts if fact.split == split]
        groups[split] = Counter(survey.groups(names) or ())
    found = []
    for place, first in enumerate(survey.splits):
        for second in survey.splits[place + 1 :]:
            if shared := sorted(groups[first] & groups[second]):
                listed = [f"{group} ({groups[first][group]} and {groups[second][group]} images)" for group in shared]
                count = "a group" if len(shared) == 1 else f"{len(shared)} groups"
                message = f"{first} and {second} share {count} (data.group), which flatters the figures"
                found.append(Finding("group", False, message, listed))
    return found


def ungrouped(survey: Survey, without: Callable[[Sequence[str]], list[str]]) -> list[Finding]:
    """Samples that `data.group` does not fit; `without` finds those of some names."""
    strange = [f"{fact.split}/{fact.name}" for fact in survey.facts if without([fact.name])]
    if not strange:
        return []
    message = (
        f"data.group does not fit {len(strange)} names: each counts as a video of its own, and data.folds refuses them"
    )
    return [Finding("group", False, message, strange)]


CHECKS: Sequence[Callable[[Survey], list[Finding]]] = (unreadable, labels, palettes, leaks, sizes, darkness)


def find(survey: Survey) -> list[Finding]:
    """All findings, errors first."""
    return sorted((finding for check in CHECKS for finding in check(survey)), key=lambda finding: not finding.error)
