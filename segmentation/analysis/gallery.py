"""Pictures of what a pair changed, on the test images that tell the most."""

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from segmentation.analysis import plots
from segmentation.analysis.cells import Pair
from segmentation.analysis.metrics import metric
from segmentation.analysis.pictures import changes, colourise, read_mask
from segmentation.analysis.runs import Run
from segmentation.analysis.tally import SampleOf
from segmentation.colours import default_colours


def draw_gallery(pair: Pair, sample_of: SampleOf) -> tuple[Figure, str]:
    """Image, truth, both predictions and what changed, for the images that the change helped and hurt most, and what to
    say below it.
    """
    seed = pair.seeds[0]
    base, other = pair.base.by_seed()[seed], pair.other.by_seed()[seed]
    data = base.config["data"]
    colours = data.get("colours") or default_colours(len(data["classes"]))
    rows = []
    for name in telling_images(pair):
        image, truth = sample_of(name)
        before, after = (read_mask(run.prediction(name)) for run in (base, other))
        masks = [colourise(mask, colours) for mask in (truth, before, after)]
        rows.append([image, *masks, changes(truth, before, after, data["ignore_index"])])
    short = [pair.base.choices.get(pair.group, "without"), pair.other.choices.get(pair.group, "with")]
    titles = ["image", "truth", *map(str, short), "repaired, broken"]
    figure = plots.picture_grid(rows, titles, data["classes"], colours)
    caption = (
        f"{pair.other.label} against {pair.base.label}, seed {seed}. Last column: green where only {short[1]} "
        f"is right, red where only {short[0]} is, black is void. From the top: two images that gained most, two in the "
        "middle, two that lost most."
    )
    return figure, caption


def telling_images(pair: Pair) -> list[str]:
    """Names of the images to show: the two that gained most accuracy over all common seeds, two in the middle, the two
    that lost most.
    """
    base, other = pair.base.by_seed(), pair.other.by_seed()
    gains: list[npt.NDArray[np.float64]] = []
    names: list[str] = []
    for seed in pair.seeds:
        before, names = image_accuracy(base[seed])
        after, _ = image_accuracy(other[seed])
        gains.append(after - before)
    ranked = [names[position] for position in np.argsort(-np.mean(gains, 0), kind="stable")]
    middle = len(ranked) // 2
    return list(dict.fromkeys(ranked[:2] + ranked[middle : middle + 2] + ranked[-2:]))


def image_accuracy(run: Run) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Pixel accuracy and name of every test image of a run."""
    counted = run.confusions()
    assert counted is not None
    return np.nan_to_num(metric("pixel_accuracy", counted.confusion)), counted.names
