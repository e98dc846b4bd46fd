"""The finished runs below a folder, as their files tell."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from segmentation.errors import UserError

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
        return self.folder / "predictions" / f"{name}.png"

    def confusions(self) -> "Confusions | None":
        """What the test counted; None where the file is not there."""
        file = self.folder / "confusion.npz"
        if not file.is_file():
            return None
        with np.load(file) as arrays:
            return Confusions(arrays["confusion"], arrays["names"].tolist())

    def analysis(self) -> "dict[str, npt.NDArray[Any]] | None":
        """What was taken from the network itself after the test; None where the file is not there."""
        file = self.folder / "analysis.npz"
        if not file.is_file():
            return None
        with np.load(file) as arrays:
            return dict(arrays)


class Confusions(NamedTuple):
    """A confusion matrix for every test image."""

    confusion: npt.NDArray[np.int64]  # [images, C, C]
    names: list[str]


def find_runs(folder: Path) -> tuple[list[Run], list[Path]]:
    """The finished runs at or below a folder, and the folders of those that have not finished."""
    finished, unfinished = [], []
    for path in sorted(folder.rglob(".hydra/config.yaml")):
        config = yaml.safe_load(path.read_text())
        if "lstm" not in config or "benchmark" in config:  # of another command
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
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
        history_file = folder / "history.json"
        history = json.loads(history_file.read_text()) if history_file.is_file() else []
    except ValueError as error:
        raise UserError(f"{folder}: metrics.json or history.json is no JSON ({error}); run it again") from error
    hydra = folder / ".hydra" / "hydra.yaml"
    choices = yaml.safe_load(hydra.read_text())["hydra"]["runtime"]["choices"] if hydra.is_file() else {}
    overridden = folder / ".hydra" / "overrides.yaml"
    overrides = (yaml.safe_load(overridden.read_text()) or []) if overridden.is_file() else []
    settled = folder / "choice.json"
    if config["lstm"].get("cell") == "auto" and settled.is_file():  # two runs of `auto` may have trained two networks
        cell = json.loads(settled.read_text())["cell"]
        config = {**config, "lstm": {**config["lstm"], "cell": cell}}
        overrides = [text.replace("lstm.cell=auto", f"lstm.cell={cell}") for text in overrides]
    return Run(folder, config, choices, overrides, metrics, history)
