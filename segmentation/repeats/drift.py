"""How far runs of the same configuration and seed are apart: in what they saw, computed, learnt and predicted."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from safetensors.torch import load_file

from segmentation.checkpoints import LAST, read_checkpoint
from segmentation.evaluation import SCALARS
from segmentation.repeats.recorder import FILE

Array = npt.NDArray[Any]
Arrays = Mapping[str, Callable[[], Array]]  # read when they are asked for: predictions may be many


class Drift(NamedTuple):
    """What repetitions of one training have apart, in one respect."""

    of: str
    compared: int  # numbers
    differing: int  # those that are not the same to the last bit
    largest: float  # difference of one, or the share that differs where numbers are only names; infinite for NaN
    where: str  # the first step, or the array, where there is one


def steps(key: str, folder: Path) -> Arrays:
    """One of the recorder's arrays [steps]."""
    with np.load(folder / FILE) as arrays:
        return {"step": partial(np.asarray, arrays[key])}


def saved_weights(folder: Path) -> Arrays:
    """The best epoch's weights, by name."""
    return {name: value.numpy for name, value in load_file(folder / "model.safetensors").items()}


def last_weights(folder: Path) -> Arrays:
    """The weights after the last step, by name; nothing where no checkpoint was kept."""
    found = read_checkpoint(folder / LAST)["state_dict"] if (folder / LAST).is_file() else {}
    return {name: value.numpy for name, value in found.items()}


def test_scores(folder: Path) -> Arrays:
    """The test's scores, fractions of 0...1 [1], by name; nothing where none was made."""
    file = folder / "metrics.json"
    metrics = json.loads(file.read_text()) if file.is_file() else {}
    return {name: partial(np.array, [metrics[name]], np.float64) for name in SCALARS if name in metrics}


def predictions(folder: Path) -> Arrays:
    """The classes predicted in the test [H, W], by the image's name."""
    files = sorted((folder / "predictions").rglob("*.png"))
    return {str(file.relative_to(folder)): partial(read_mask, file) for file in files}


def read_mask(file: Path) -> Array:
    """Class indices [H, W]."""
    with Image.open(file) as image:
        return np.asarray(image)


READERS: dict[str, Callable[[Path], Arrays]] = {
    "data": partial(steps, "data"),
    "losses": partial(steps, "losses"),
    "weights of the last step": last_weights,
    "weights saved": saved_weights,
    "scores": test_scores,
    "predictions": predictions,
}
NAMES_ONLY = ("data", "predictions")  # their numbers stand for something: how far apart two are says nothing


def find_drifts(folders: Sequence[Path]) -> list[Drift]:
    """In each respect, what the runs in these folders have apart."""
    return [compare(of, [read(folder) for folder in folders]) for of, read in READERS.items()]


def compare(of: str, runs: Sequence[Arrays]) -> Drift:
    """What runs have apart in one respect. Arrays that not all of them have, or of other shapes, differ wholly."""
    compared, differing, largest, where = 0, 0, 0.0, ""
    for name in dict.fromkeys(name for run in runs for name in run):
        arrays = [run[name]() for run in runs if name in run]
        if len(arrays) < len(runs) or len({array.shape for array in arrays}) > 1:
            apart, spread = np.ones(max(array.size for array in arrays), bool), np.inf
        else:
            apart, spread = differences(np.stack(arrays))
        compared, differing = compared + apart.size, differing + int(apart.sum())
        if apart.any() and (not where or spread > largest):
            where = f"step {int(apart.argmax())}" if name == "step" else name
        largest = max(largest, spread)
    if of in NAMES_ONLY:
        largest = differing / max(1, compared)
    return Drift(of, compared, differing, largest, where)


def differences(runs: Array) -> tuple[Array, float]:
    """Of runs [runs, ...]: which numbers [all of them] differ in a bit, and the largest distance between two runs."""
    flat = np.ascontiguousarray(runs.reshape(len(runs), -1))
    bits = flat.view(np.uint8).reshape(*flat.shape, flat.itemsize)
    apart = (bits != bits[0]).any((0, 2))
    if not apart.any():
        return apart, 0.0
    numbers = flat[:, apart].astype(np.float64)
    with np.errstate(invalid="ignore"):
        spread = float((numbers.max(0) - numbers.min(0)).max())
    return apart, np.inf if np.isnan(spread) else spread


def score_drifts(folders: Sequence[Path]) -> dict[str, float]:
    """The largest difference of each of the test's scores, a fraction."""
    runs = [test_scores(folder) for folder in folders]
    return {name: compare(name, [{name: run[name]} for run in runs]).largest for name in runs[0]}
