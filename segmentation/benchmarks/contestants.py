"""Two ways to train the same network, measured in images a second: this project, and its bare loop."""

import copy
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from pytorch_lightning.loggers import TensorBoardLogger

from segmentation.allocator import keep_freed_memory
from segmentation.benchmarks.timing import Computing
from segmentation.cost import peak_memory, synchronise
from segmentation.data.module import DataModule
from segmentation.errors import UserError
from segmentation.evaluation import Evaluation
from segmentation.task import Task
from segmentation.train import build_task
from segmentation.trainer import build_trainer

WARM_UP = 2  # steps that do not count: workers start, kernels are chosen, the queue of batches fills


class Stopwatch(pl.Callback):
    """Images a second from the end of the warm-up to the end of the last batch; validation batches alike."""

    def __init__(self) -> None:
        self.start = self.stop = 0.0
        self.batches = self.images = 0

    @property
    def rate(self) -> float:
        """Images a second."""
        if self.images == 0:
            raise UserError(f"data: {self.batches} batches are too few; the first {WARM_UP} of an epoch do not count")
        return self.images / (self.stop - self.start)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self._count(trainer, batch, trainer.max_steps * trainer.accumulate_grad_batches)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self._count(trainer, batch, int(trainer.num_val_batches[0]))

    def _count(self, trainer: pl.Trainer, batch: Any, last: int) -> None:
        if WARM_UP <= self.batches < last:
            self.images += len(batch["image"] if isinstance(batch, dict) else batch[0])
        self.batches += 1
        if self.batches in (WARM_UP, last):  # in between nobody waits for the device
            synchronise(trainer.strategy.root_device)
            self.stop = time.perf_counter()
            if self.batches == WARM_UP:
                self.start = self.stop


class Ours:
    """This project as `train` runs it: its data, task, trainer, progress bar and TensorBoard."""

    def __init__(self, settings: Mapping[str, Any], folder: Path, steps: int) -> None:
        self.settings: dict[str, Any] = copy.deepcopy(dict(settings))
        self.folder, self.steps = folder, steps
        trainer = self.settings["trainer"] | {"max_epochs": -1}  # as many as the steps take
        limits = {"max_steps": WARM_UP + steps, "limit_val_batches": 0}
        self.settings["trainer"] = trainer | {"args": trainer["args"] | limits}
        self.task: Task | None = None

    def train(self) -> float:
        """Images a second of some steps of a training."""
        keep_freed_memory()
        watch, data = Stopwatch(), self.data()
        trainer = self.trainer(watch)
        if self.task is None:
            torch.manual_seed(0)
            self.task = build_task(self.settings, data)
        trainer.fit(self.task, data)
        return watch.rate

    def memory(self) -> float | None:
        """MiB at the peak of the same, the network included if it is the first call."""
        return peak_memory(self.train, Computing.of(self.settings, self.folder).device)

    def evaluate(self, images: int) -> float:
        """Images a second of an evaluation, one image a forward."""
        keep_freed_memory()
        assert self.task is not None
        data, watch = self.data(), Stopwatch()
        self.settings["trainer"]["args"]["limit_val_batches"] = WARM_UP + images
        task = Evaluation(
            self.task.network,
            classes=data.classes,
            ignore_index=data.ignore_index,
            channels_last=self.settings["trainer"]["channels_last"],
        )
        self.trainer(watch).validate(task, data, verbose=False)
        return watch.rate

    def data(self) -> DataModule:
        data = DataModule(self.settings["data"], self.settings["augment"], 0)
        data.prepare("train", "val")
        return data

    def trainer(self, watch: Stopwatch) -> pl.Trainer:
        progress = instantiate(self.settings["callbacks"]["progress"])
        logger = TensorBoardLogger(self.folder, name="", version="tensorboard")
        return build_trainer(self.settings["trainer"], self.folder, callbacks=[progress, watch], loggers=[logger])


class Bare:
    """The project's network in the least that trains it: forward, loss, backward, step, on a batch in memory."""

    def __init__(self, ours: Ours) -> None:
        data, settings = ours.data(), ours.settings
        self.device, self.context = Computing.of(settings, ours.folder)
        torch.manual_seed(0)
        self.task = build_task(settings, data).to(self.device)
        self.batch, self.single = (
            data.on_after_batch_transfer({key: value.to(self.device) for key, value in batch.items()}, 0)
            for batch in (next(iter(data.train_dataloader())), next(iter(data.val_dataloader())))
        )
        self.optimizer = torch.optim.AdamW(self.task.parameters(), lr=1e-3, fused=True)
        self.steps = ours.steps

    def step(self) -> None:
        mask = self.batch["mask"]
        with self.context():
            loss = self.task.loss(self.task(self.batch["image"], mask.shape[-2:]), mask)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def train(self) -> float:
        """Images a second."""
        keep_freed_memory()
        self.task.train()
        return self._rate(self.step, self.steps, len(self.batch["image"]))

    def evaluate(self, images: int) -> float:
        """Images a second of nothing but forward passes, of one image, to logits of the mask's size."""
        keep_freed_memory()
        self.task.eval()
        image, size = self.single["image"], self.single["mask"].shape[-2:]

        def forward() -> None:
            with torch.inference_mode(), self.context():
                self.task(image, size)

        return self._rate(forward, images, len(image))

    def _rate(self, work: Callable[[], None], times: int, images: int) -> float:
        for _ in range(WARM_UP):
            work()
        synchronise(self.device)
        start = time.perf_counter()
        for _ in range(times):
            work()
        synchronise(self.device)
        return times * images / (time.perf_counter() - start)
