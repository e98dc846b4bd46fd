"""The finished runs below a folder, as their files tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segmentation.errors import UserError
from segmentation.reading import below, disarm, read_arrays, read_json, read_yaml

FIELDS = ("field", "slot_field")  # of an analysis
DRAWN = 4096  # positions of a scan that is drawn, at most; a run leaves 400
CONTRACT = ("split", "num_images", "ignore_index", "resolution", "files_hash")


@dataclass(frozen=True)
class Run:
    """A finished run, as its files tell."""

    folder: Path
    config: Mapping[str, Any]  # as composed
    choices: Mapping[str, str]  # group -> the YAML chosen
    overrides: Sequence[str]  # the command line's
    metrics: Mapping[str, Any]  # of the test
    history: Sequence[Mapping[str, float]]  # a row for each epoch
    members: Sequence["Run"] = ()  # those of each fold, where it stands for several

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def contract(self) -> dict[str, Any]:
        """Only scores with equal contracts may be compared."""
        return {key: self.metrics.get(key) for key in CONTRACT} | {"classes": list(self.metrics.get("per_class", []))}

    def prediction(self, name: str) -> Path:
        return below(self.folder / "predictions", f"{name}.png")

    def confusions(self) -> "Confusions | None":
        """What the test counted; None where the file is not there."""
        file = self.folder / "confusion.npz"
        if not file.is_file():
            return None
        arrays = read_arrays(file)
        try:
            found = Confusions(arrays["confusion"], [str(name) for name in arrays["names"].tolist()])
        except KeyError as error:
            raise UserError(f"{file}: holds no {error}; test the run again") from error
        classes = len(self.config["data"]["classes"])
        if found.confusion.shape != (len(found.names), classes, classes) or found.confusion.dtype.kind not in "iu":
            raise UserError(f"{file}: not a matrix of {classes} classes for each image; test the run again")
        return found

    def analysis(self) -> "dict[str, npt.NDArray[Any]] | None":
        """What was taken from the network itself after the test; None where the file is not there."""
        file = self.folder / "analysis.npz"
        if not file.is_file():
            return None
        arrays = read_arrays(file)
        check_analysis(arrays, file)
        return arrays


class Confusions(NamedTuple):
    """A confusion matrix for every test image."""

    confusion: npt.NDArray[np.int64]  # [images, C, C]
    names: list[str]


def find_runs(folder: Path) -> tuple[list[Run], list[Path]]:
    """The finished runs at or below a folder, and the folders of those that have not finished."""
    finished, unfinished = [], []
    for path in sorted(folder.rglob(".hydra/config.yaml")):
        config = read_yaml(path)
        if not isinstance(config, Mapping) or "lstm" not in config or "benchmark" in config:  # of another command
            continue
        run = path.parent.parent
        if (run / "metrics.json").is_file():
            finished.append(read_run(run, config))
        else:
            unfinished.append(run)
    if not finished:
        started = f", only {len(unfinished)} unfinished or not tested" if unfinished else ""
        raise UserError(f"{folder}: no finished run in it{started}; give the folder of a run or a sweep")
    return finished, unfinished


def read_run(folder: Path, config: Mapping[str, Any]) -> Run:
    """A run from its files."""
    metrics = read_json(folder / "metrics.json")
    history_file = folder / "history.json"
    history = read_json(history_file) if history_file.is_file() else []
    hydra = folder / ".hydra" / "hydra.yaml"
    overridden = folder / ".hydra" / "overrides.yaml"
    overrides = (read_yaml(overridden) or []) if overridden.is_file() else []
    try:
        check_metrics(metrics, history)
        choices = read_yaml(hydra)["hydra"]["runtime"]["choices"] if hydra.is_file() else {}
        config = {**disarm(config), "seed": int(config["seed"])}
        settled = folder / "choice.json"
        if config["lstm"].get("cell") == "auto" and settled.is_file():  # two runs of it may have trained two networks
            cell = read_json(settled)["cell"]
            config = {**config, "lstm": {**config["lstm"], "cell": cell}}
            overrides = [text.replace("lstm.cell=auto", f"lstm.cell={cell}") for text in overrides]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{folder}: not the files of a run ({reason}); test it again") from error
    return Run(folder, config, choices, overrides, metrics, history)


def check_metrics(metrics: Any, history: Any) -> None:
    """Raise a ValueError unless these can be a test's scores and a training's history."""
    for key in ("pixel_accuracy", "mean_iou", "mean_accuracy"):
        if not isinstance(metrics[key], int | float | None) or not 0 <= (metrics[key] or 0) <= 1:
            raise ValueError(f"metrics.json: {key} is no fraction")
    if not isinstance(metrics["num_images"], int) or not isinstance(metrics["split"], str):
        raise ValueError("metrics.json: num_images or split is not what it should be")
    for key in ("parameters", "lstm_parameters", "train_seconds"):
        if not isinstance(metrics.get(key), int | float | None):
            raise ValueError(f"metrics.json: {key} is no number")
    if not isinstance(metrics["files_hash"], str) or not isinstance(metrics.get("per_class", {}), Mapping):
        raise ValueError("metrics.json: files_hash or per_class is not what it should be")
    absent = metrics.get("absent_classes", [])
    if not isinstance(absent, list) or not all(isinstance(name, str) for name in absent):
        raise ValueError("metrics.json: absent_classes are no names")
    if not isinstance(history, list) or not all(isinstance(row, Mapping) and "epoch" in row for row in history):
        raise ValueError("history.json: no rows of an epoch's scalars")
    if not all(isinstance(row["epoch"], int) and 0 <= row["epoch"] < 10**9 for row in history):
        raise ValueError("history.json: an epoch is no number")
    if not all(isinstance(value, int | float | None) for row in history for value in row.values()):
        raise ValueError("history.json: holds what is no number")


def check_analysis(arrays: Mapping[str, npt.NDArray[Any]], file: Path) -> None:
    """Raise a UserError unless these can be what an inspection left."""
    maps = [arrays.get(key) for key in FIELDS]
    good = all(found is not None and found.ndim == 2 and found.dtype.kind == "f" for found in maps)
    if "orders" in arrays:
        layouts = [arrays.get(key) for key in ("sequences", "steps", "drawn_sequences", "drawn_steps")]
        good &= all(x is not None and x.ndim == 3 and len(x) == arrays["orders"].size for x in layouts)
        good = good and all(x is not None and x[0].size <= DRAWN for x in layouts[2:])
    if not good:
        raise UserError(f"{file}: not what an inspection leaves; remove it, or test the run again")
