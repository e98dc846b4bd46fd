"""Why a training's numbers went wrong: a batch run again, with a look at what every layer returns."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from segmentation.evaluation import Batch
from segmentation.finite import not_finite
from segmentation.runfiles import data_of
from segmentation.task import Task

SHOWN = 32  # names of samples in a line
CURE = "look at these images, or lower optimizer.lr, set trainer.gradient_clip_val=1 or trainer.precision=32"


def find_cause(trainer: pl.Trainer, task: Task, index: Tensor) -> str:
    """What is not finite first when these samples of the epoch are trained on again.

    All processes must call it together: batch norm may be shared among them.
    """
    loader: Any = trainer.train_dataloader
    items = [loader.dataset[trainer.current_epoch, place] for place in index.tolist()]
    batch: Batch = trainer.strategy.batch_to_device(loader.collate_fn(items), dataloader_idx=0)
    task.zero_grad()
    with torch.enable_grad(), watched(task) as wrong:
        with trainer.precision_plugin.forward_context():
            loss = task.training_loss(batch)[0]
        torch.autograd.backward(loss)
    if wrong:
        return wrong[0]
    # A gradient goes from the last layer to the first, and so does what is wrong with it.
    gradients = {name: one.grad for name, one in task.named_parameters() if one.grad is not None}
    broken = not_finite(dict(reversed(gradients.items())))
    if broken is not None:
        return f"forward all is finite, backward the first that is not is the gradient of {broken}"
    return "run again, all of it is finite"


def find_cause_in_validation(trainer: pl.Trainer, task: Task) -> str:
    """What is not finite first, in the first batch of the validation where something is not."""
    data = data_of(trainer)
    for items in data.val_dataloader():
        batch: Batch = trainer.strategy.batch_to_device(items, dataloader_idx=0)
        with watched(task) as wrong, trainer.precision_plugin.forward_context():
            task.loss(task(batch["image"], batch["mask"].shape[-2:]), batch["mask"])
        if wrong:
            return f"{name_samples(trainer, 'val', batch['index'].tolist())}: {wrong[0]}"
    return "run again, all of it is finite"


@contextmanager
def watched(task: Task) -> Iterator[list[str]]:
    """A list that grows by every layer whose output is not finite as it is called, inner ones before outer ones."""
    wrong: list[str] = []

    def watch(name: str, module: nn.Module) -> Any:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if not all(tensor.isfinite().all() for tensor in tensors(output)):
                broken = not_finite(dict(module.named_parameters(name, recurse=False)))
                why = f", whose {broken.rpartition('.')[2]} is not either" if broken else ""
                wrong.append(f"the first output that is not finite is of {name} ({type(module).__name__}){why}")

        return module.register_forward_hook(look)

    handles = [watch(name, module) for name, module in task.named_modules() if name]
    try:
        with torch.compiler.set_stance("force_eager"):  # what is compiled calls no hooks
            yield wrong
    finally:
        for handle in handles:
            handle.remove()


def tensors(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors in what a layer returns."""
    match output:
        case Tensor() if output.is_floating_point():
            yield output
        case list() | tuple():
            for part in output:
                yield from tensors(part)
        case dict():
            yield from tensors(list(output.values()))


def report(trainer: pl.Trainer, what: str, samples: list[int], cause: str, step: int) -> str:
    """The line that a training ends with, of all its processes."""
    found = (name_samples(trainer, "train", samples), cause)
    parts: list[Any] = [found]
    if trainer.world_size > 1:
        parts = [None] * trainer.world_size
        torch.distributed.all_gather_object(parts, found)
    names = ", ".join(dict.fromkeys(names for names, _ in parts if names))
    cause = next((cause for _, cause in parts if cause.startswith("the first")), cause)
    batch = f" with {names}" if names else ""
    return f"training: epoch {trainer.current_epoch}, step {step}: {what}{batch}: {cause}; {kept(trainer)}; {CURE}"


def name_samples(trainer: pl.Trainer, split: str, samples: list[int]) -> str:
    """The image files of some samples of a split, or their names where they have none."""
    reader = data_of(trainer).reader(split)
    names = [str(reader.image_file(index) or reader.names[index]) for index in samples if index >= 0]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def kept(trainer: pl.Trainer) -> str:
    """Which checkpoint is there from before."""
    callbacks = [one for one in trainer.checkpoint_callbacks if isinstance(one, pl.callbacks.ModelCheckpoint)]
    files = [Path(one.best_model_path) for one in callbacks if one.best_model_path]
    there = [file for file in files if file.is_file()]
    if not there:
        return "no checkpoint was written before"
    return f"the last good state is in {max(there, key=lambda file: file.stat().st_mtime)}"
