"""What Lightning calls during a training besides the task: history, pictures, and TensorBoard's hparams."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from segmentation.analysis import plots
from segmentation.errors import UserError
from segmentation.evaluation import SCALARS, Batch, Evaluation
from segmentation.reading import read_json
from segmentation.runfiles import data_of, examples, spread, write_json
from segmentation.task import Task

Charts = Mapping[str, Mapping[str, tuple[str, list[str]]]]


class History(pl.Callback):
    """One row of scalars for every epoch, in `history.json` and in the checkpoints, so that a resumed run keeps it.

    The learning rates it takes from the optimizer, and hands to the loggers too. (Lightning's LearningRateMonitor
    refuses to run without a logger.)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0  # of training and validation, over all starts of the run
        self._start = 0.0  # of the epoch
        self._before = 0.0  # seconds of this epoch before it was interrupted
        self._validated = False  # in this epoch

    def read(self) -> None:
        """Take over what an earlier training left in the folder, so that testing again does not forget its cost."""
        file = self.folder / "history.json"
        if file.is_file():
            try:
                self.rows = read_json(file)
                self.seconds = sum(row["seconds"] for row in self.rows)
            except (KeyError, TypeError) as error:
                raise UserError(f"{file}: not the history of a run; remove it to test without") from error

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.perf_counter() - self._before  # going on inside an epoch, Lightning does not start it anew

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Task)
        pl_module.log_means()
        # Lightning keeps the scores of the last validation, which may be one of an epoch before.
        stale = () if self._validated else ("val/",)
        self._validated = False
        seconds, self._start = time.perf_counter() - self._start, math.inf
        self.seconds += seconds
        # Of a value logged by step and by epoch the latter counts; a name without a stage is the progress bar's.
        logged = {
            name: value.item()
            for name, value in trainer.callback_metrics.items()
            if "/" in name and not name.endswith("_step") and not name.startswith(stale)
        }
        rates = {f"lr/{group['name']}": group["lr"] for group in trainer.optimizers[0].param_groups}
        for logger in trainer.loggers:
            logger.log_metrics(rates, step=trainer.global_step)
        row = {"epoch": trainer.current_epoch, "seconds": seconds} | rates | logged
        self.rows.append({name.removesuffix("_epoch"): value for name, value in row.items()})
        if trainer.is_global_zero:
            write_json(self.folder / "history.json", self.rows)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and self.rows:
            plots.save(plots.curves(self.rows), self.folder / "plots" / "curves.png")

    def state_dict(self) -> dict[str, Any]:
        begun = max(0.0, time.perf_counter() - self._start)
        return {"rows": self.rows, "seconds": self.seconds, "begun": begun}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        rows = state_dict["rows"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise TypeError("History: no rows of scalars")
        self.rows, self.seconds = rows, float(state_dict["seconds"])
        self._before = state_dict.get("begun", 0.0)


class ProgressBar(pl.callbacks.RichProgressBar):
    """Lightning's bar, whose numbers are fetched from the device about once a second instead of after every step.

    Fetching a number makes the host wait until the device has done all it was told; meanwhile it tells it nothing new.

    Args:
        seconds: between two looks at the numbers.
        bar: arguments of Lightning's.
    """

    def __init__(self, seconds: float = 1.0, **bar: Any) -> None:
        super().__init__(**bar)
        self.seconds = seconds
        self._fetched: tuple[float, dict[str, Any]] = (-math.inf, {})

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        if time.monotonic() - self._fetched[0] > self.seconds or not trainer.training:
            numbers = dict(super().get_metrics(trainer, pl_module))
            # Not by `prog_bar=True`: what is logged so, Lightning itself fetches after every step.
            if "train/loss_step" in trainer.callback_metrics:
                numbers["loss"] = f"{trainer.callback_metrics['train/loss_step'].item():.3f}"
            self._fetched = (time.monotonic(), numbers)
        return self._fetched[1]


class ValidationImages(pl.Callback):
    """A few validation images with truth, prediction and errors, and the confusion matrix, in TensorBoard after every
    epoch. They are the same images each time, so that TensorBoard's slider shows how their prediction changes.

    Args:
        count: images, taken at even distances over the split.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise UserError(f"callbacks.images.count={count}: give at least 1, or take them out by ~callbacks.images")
        self.count = count
        self._predictions: dict[int, npt.NDArray[np.uint8]] = {}

    def on_validation_batch_end(  # type: ignore[override]  # Lightning cannot know what the step returns
        self,
        trainer: pl.Trainer,
        pl_module: Evaluation,
        outputs: Tensor,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.loggers:
            return
        chosen = spread(len(data_of(trainer).reader("val")), self.count)
        for index, prediction in zip(batch["index"].tolist(), outputs, strict=True):
            if index in chosen:
                self._predictions[index] = prediction.cpu().numpy().astype(np.uint8)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Evaluation)
        data = data_of(trainer)
        images = examples(data, "val", self._predictions)
        self._predictions = {}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and images and trainer.is_global_zero:
                segmented = plots.segmented(images, data.classes, data.colours, data.ignore_index)
                logger.experiment.add_figure("val/images", segmented, trainer.global_step)
                confusion = np.asarray(pl_module.results["val"]["confusion_matrix"])
                figure = plots.confusion_matrix(confusion, data.classes)
                logger.experiment.add_figure("val/confusion_matrix", figure, trainer.global_step)


def overview() -> Charts:
    """What TensorBoard's custom scalars show first: page -> chart -> its kind and the scalars in it, by expressions."""
    shown = {
        "mean IoU": ["val/mean_iou"],
        "pixel accuracy": ["train/pixel_accuracy", "val/pixel_accuracy"],
        "loss": ["train/loss_epoch", "val/loss"],
        "learning rates": ["lr/.*"],
    }
    pages = {"training": shown, "test": {"test": [f"test/{name}" for name in SCALARS]}}
    # TensorBoard matches beginnings: `val/loss` alone would show all that begins so.
    return {
        page: {chart: ("Multiline", [f"^{tag}$" for tag in tags]) for chart, tags in charts.items()}
        for page, charts in pages.items()
    }


class Overview(pl.Callback):
    """TensorBoard's custom scalars: the curves that matter on one page, training and validation in one chart."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                logger.experiment.add_custom_scalars(overview())


class FinalScores(pl.Callback):
    """TensorBoard's hparams page: what the run was told, beside what it scored in the test."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Evaluation)
        # Names of their own: Lightning adds a point at step 0, which must not fall into the curves of the test.
        final = {f"final/{name}": pl_module.results["test"][name] for name in ("pixel_accuracy", "mean_iou")}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(dict(self.settings), final)
