"""Counting the predictions of many runs, image by image, each file read once."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segmentation.analysis.cells import Pair
from segmentation.analysis.pictures import Pixels, read_mask
from segmentation.analysis.runs import Run
from segmentation.analysis.strata import Stratum

# name of a test image -> (image [H, W, 3], truth [H, W])
SampleOf = Callable[[str], tuple[Pixels, Pixels]]
Counts = npt.NDArray[np.int64]


@dataclass
class Tally:
    """Pixels counted, a list entry for each image."""

    labelled: list[int] = field(default_factory=list)
    shapes: set[tuple[int, ...]] = field(default_factory=set)  # of the masks
    # pixels in each band [bands]: all labelled ones, and those that a run's folder got right
    pixels: dict[Stratum, list[Counts]] = field(default_factory=lambda: defaultdict(list))
    correct: dict[tuple[Path, Stratum], list[Counts]] = field(default_factory=lambda: defaultdict(list))
    # by the pair's position, the seed, and `repaired` or `broken`
    changed: dict[tuple[int, int, str], list[int]] = field(default_factory=lambda: defaultdict(list))


def image_names(pair: Pair) -> list[str]:
    """Names of the images that all runs of a pair were tested on.

    Raises:
        FileNotFoundError: where a run does not say.
    """
    names: list[str] | None = None
    for run in runs_of([pair]):
        counted = run.confusions()
        if counted is None:
            raise FileNotFoundError(f"{run.folder / 'confusion.npz'} is not there")
        if names is not None and counted.names != names:
            raise FileNotFoundError(f"{run.folder / 'confusion.npz'} is of other images")
        names = counted.names
    return names or []


def runs_of(pairs: Sequence[Pair]) -> list[Run]:
    """Every run that a pair compares, once."""
    found: dict[Path, Run] = {}
    for pair in pairs:
        for cell in (pair.base, pair.other):
            found |= {cell.by_seed()[seed].folder: cell.by_seed()[seed] for seed in pair.seeds}
    return list(found.values())


def fitting(run: Run, name: str, truth: Pixels) -> Pixels:
    """What a run predicted for an image, or a ValueError where that is of another size."""
    found = read_mask(run.prediction(name))
    if found.shape != truth.shape:
        raise ValueError(f"{run.prediction(name)}: not of the size of its mask")
    return found


def count_image(
    tally: Tally, pairs: Sequence[Pair], strata: Sequence[Sequence[Stratum]], name: str, truth: Pixels
) -> None:
    """Add one image to the tally."""
    right: dict[Path, npt.NDArray[np.bool_]] = {}
    labelled = truth != pairs[0].base.settings["data"]["ignore_index"]
    for run in runs_of(pairs):
        right[run.folder] = (fitting(run, name, truth) == truth)[labelled]
    tally.labelled.append(int(labelled.sum()))
    tally.shapes.add(truth.shape)
    bands = {stratum: stratum.assign(truth)[labelled] for stratum in itertools.chain.from_iterable(strata)}
    for stratum, codes in bands.items():
        tally.pixels[stratum].append(np.bincount(codes, minlength=len(stratum.bands)))
    counted = set()
    for position, pair in enumerate(pairs):
        for seed in pair.seeds:
            before, after = (right[cell.by_seed()[seed].folder] for cell in (pair.base, pair.other))
            tally.changed[position, seed, "repaired"].append(int(np.count_nonzero(after & ~before)))
            tally.changed[position, seed, "broken"].append(int(np.count_nonzero(before & ~after)))
            for cell in (pair.base, pair.other):
                folder = cell.by_seed()[seed].folder
                for stratum in strata[position]:
                    if (folder, stratum) not in counted:
                        counted.add((folder, stratum))
                        codes = bands[stratum][right[folder]]
                        tally.correct[folder, stratum].append(np.bincount(codes, minlength=len(stratum.bands)))
