"""The files that a test leaves in a run's folder."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from segmentation.analysis import plots
from segmentation.analysis.pictures import save_mask
from segmentation.card import write_card
from segmentation.data.module import DataModule
from segmentation.data.samplers import UNCOUNTED
from segmentation.evaluation import Batch, Evaluation
from segmentation.models.files import DESCRIPTION
from segmentation.reading import below
from segmentation.whole import whole

log = logging.getLogger(__name__)
Mask = npt.NDArray[np.uint8]


class Cost(Protocol):
    """What a training took."""

    seconds: float
    rows: list[dict[str, float]]  # one an epoch


def write_json(path: Path, content: Any) -> None:
    """Write a file whole or not at all."""
    with whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write an .npz file whole or not at all."""
    with whole(path) as partial, partial.open("wb") as file:  # given the name, NumPy would change its ending
        np.savez_compressed(file, **arrays)


def data_of(trainer: pl.Trainer) -> DataModule:
    """The run's data; Lightning keeps it untyped."""
    data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
    return data


def spread(length: int, count: int) -> list[int]:
    """At most `count` positions at even distances over `length`."""
    return sorted({round(position) for position in np.linspace(0, length - 1, min(count, length))})


def examples(
    data: DataModule, split: str, predictions: Mapping[int, Mask]
) -> list[tuple[npt.NDArray[np.uint8], Mask, Mask]]:
    """(image as RGB [H, W, 3], truth [H, W], prediction [H, W]) for each predicted index, in the split's order."""
    samples = [(data.reader(split)[index], predictions[index]) for index in sorted(predictions)]
    return [(data.visible(sample.image), sample.mask, prediction) for sample, prediction in samples]


class TestFiles(pl.Callback):
    """Everything a test leaves: metrics.json, confusion.npz, predictions/ and plots/.

    Args:
        folder: where they go.
        cost: of the training before the test, for metrics.json.
    """

    __test__ = False  # not a test case of pytest

    def __init__(self, folder: Path, cost: Cost | None = None) -> None:
        self.folder = folder
        self.cost = cost
        self.confusions: dict[int, npt.NDArray[np.int64]] = {}  # by the image's index

    def on_test_batch_end(  # type: ignore[override]  # Lightning cannot know what the step returns
        self,
        trainer: pl.Trainer,
        pl_module: Evaluation,
        outputs: Tensor,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        data = data_of(trainer)
        names = data.reader(data.test_split).names
        for index, prediction, mask in zip(batch["index"].tolist(), outputs, batch["mask"], strict=True):
            if index == UNCOUNTED:
                continue
            confusion = multiclass_confusion_matrix(
                prediction, mask, len(pl_module.classes), ignore_index=pl_module.ignore_index, validate_args=False
            )
            self.confusions[index] = confusion.cpu().numpy().astype(np.int64)
            path = self.prediction_path(names[index])
            save_mask(path, prediction.cpu().numpy().astype(np.uint8), data.colours)

    def prediction_path(self, name: str) -> Path:
        """Where the prediction for the image of this name lies."""
        return below(self.folder / "predictions", f"{name}.png")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Evaluation)
        self._gather()
        if trainer.is_global_zero:
            data = data_of(trainer)
            if absent := pl_module.results["test"]["absent_classes"]:
                log.warning(f"{data.test_split}: no pixel is of {', '.join(absent)}, which the means leave out")
            self._write_arrays(data.reader(data.test_split).names)
            self._write_plots(data, pl_module.results["test"])
            metrics = self._metrics(data, pl_module)
            if (self.folder / DESCRIPTION).is_file():  # an evaluation's folder holds no model to describe
                write_card(self.folder, metrics, data.name)
            # Last, as the sign that all the others are there.
            write_json(self.folder / "metrics.json", metrics)

    def _gather(self) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, self.confusions)
            self.confusions = {index: matrix for part in parts for index, matrix in part.items()}

    def _write_arrays(self, names: Sequence[str]) -> None:
        seen = sorted(self.confusions)
        arrays = {
            "confusion": np.stack([self.confusions[index] for index in seen]),
            "names": np.array([names[index] for index in seen]),
        }
        write_arrays(self.folder / "confusion.npz", arrays)

    def _write_plots(self, data: DataModule, results: Mapping[str, Any]) -> None:
        reader, folder = data.reader(data.test_split), self.folder / "plots"
        seen = sorted(self.confusions)
        shown = [seen[position] for position in spread(len(seen), 6)]
        predictions = {index: np.asarray(Image.open(self.prediction_path(reader.names[index]))) for index in shown}
        images = examples(data, data.test_split, predictions)
        plots.save(plots.segmented(images, data.classes, data.colours, data.ignore_index), folder / "segmented.png")
        confusion = np.asarray(results["confusion_matrix"])
        plots.save(plots.confusion_matrix(confusion, data.classes), folder / "confusion_matrix.png")
        plots.save(plots.class_iou(results["per_class"]), folder / "class_iou.png")

    def _metrics(self, data: DataModule, task: Evaluation) -> dict[str, Any]:
        parts = {"parameters": task.network, "lstm_parameters": task.network.lstm}
        facts: dict[str, Any] = {
            name: sum(parameter.numel() for parameter in part.parameters()) for name, part in parts.items()
        }
        if self.cost is not None:
            facts |= {"train_seconds": self.cost.seconds, "epochs": len(self.cost.rows)}
        seen = {"num_images": len(self.confusions)}  # all of the split's, unless the trainer was told to stop early
        return data.contract(data.test_split) | seen | task.results["test"] | facts
