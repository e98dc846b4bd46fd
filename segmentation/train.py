"""`python -m segmentation.train`: one run, or with `-m` a sweep of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from segmentation.apart import train_apart
from segmentation.cli import command, is_first_process, say
from segmentation.errors import UserError
from segmentation.mistakes import explain
from segmentation.printable import printable

if TYPE_CHECKING:  # torch is imported once the configuration is known to be right
    from segmentation.data.module import DataModule
    from segmentation.task import Task

# Settings that would only crowd TensorBoard's table of hyper-parameters.
NOT_COMPARED = {"output", "callbacks", "logger", "augment", "ckpt", "resume", "find", "train", "test", "monitor",
                "data.root",
                "data.reader", "data.splits", "data.classes", "data.colours", "data.ignore_index", "data.group",
                "data.source", "data.download", "data.check", "data.cache", "data.cache_gib", "data.num_workers",
                "data.eval_batch_size", "data.shown"}  # fmt: skip


def train(config: DictConfig) -> dict[str, Any]:
    """Train and test what the configuration describes, leaving the run's files in `config.output`.

    Returns:
        The scores of the test, or those of the last validation where `test=false`; empty where neither ran.
    """
    from segmentation.checkpoints import find_checkpoint
    from segmentation.determinism import naming_what_cannot_comply
    from segmentation.lock import claim
    from segmentation.optim import optimizer_class
    from segmentation.slurm import unmark
    from segmentation.targets import check_targets

    folder, checkpoint = find_checkpoint(config.ckpt, Path(config.output), train=config.train, resume=config.resume)
    config.output = str(folder)
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    check_targets(settings)
    optimizer_class(config.optimizer.name)
    with claim(folder) if is_first_process() else nullcontext(), naming_what_cannot_comply():
        if config.find is not None:
            from segmentation.finding import find

            return find(settings, folder)
        unmark(folder)
        return fit_and_test(settings, folder, checkpoint)


def fit_and_test(settings: dict[str, Any], folder: Path, checkpoint: Path | None) -> dict[str, Any]:
    """Train and test in a folder, going on from a checkpoint where there is one; as `train`."""
    import pytorch_lightning as pl

    from segmentation.callbacks import FinalScores, History
    from segmentation.checkpoints import best_weights, load_weights, refusing, resume_point
    from segmentation.choice import settle_cell
    from segmentation.data.module import DataModule
    from segmentation.guard import FiniteNumbers
    from segmentation.interruption import Interruption
    from segmentation.models.files import META, save_model
    from segmentation.record import Record
    from segmentation.runfiles import TestFiles
    from segmentation.targets import build
    from segmentation.trainer import build_trainer, check_monitors, lightnings_words

    training, testing = settings["train"], settings["test"]
    pl.seed_everything(settings["seed"], workers=True, verbose=False)
    data = DataModule(settings["data"], settings["augment"], settings["seed"])
    history = History(folder)
    if not training:
        history.read()
    record = Record(settings, folder)
    callbacks = [
        FiniteNumbers(),
        record,
        history,
        *build(settings["callbacks"], "callbacks").values(),
    ]
    check_monitors(callbacks)
    final = FinalScores(describe(settings))
    interruption = Interruption(folder)
    callbacks += [TestFiles(folder, history), final, interruption]  # metrics.json last: it ends the run
    loggers = build(settings["logger"], "logger").values()
    trainer = build_trainer(settings["trainer"], folder, callbacks=callbacks, loggers=loggers)
    settle_cell(settings, data, folder, trainer, checkpoint)
    final.settings = describe(settings)
    task = build_task(settings, data)
    data.prepare(*(["train", "val"] if training else []), *([data.test_split] if testing else []))
    if training:
        data.begun = resume_point(task, settings, checkpoint, folder)
        (folder / "metrics.json").unlink(missing_ok=True)  # those of an earlier training here
        with (
            interruption.listening(),
            resumable(folder),
            lightnings_words(lambda: record.begun),
            refusing(checkpoint, lambda: record.begun),
        ):
            trainer.fit(task, data, ckpt_path=checkpoint, weights_only=True)
    load_weights(task, best_weights(trainer) if training else checkpoint)
    if trainer.is_global_zero and (training or not (folder / "model.safetensors").exists()):
        meta = {key: getattr(data, key) for key in META}
        save_model(task.network, folder, model=model_settings(settings), meta=meta)
    if testing:
        with interruption.listening():
            trainer.test(task, data, verbose=False)
    return task.results.get("test") or task.results.get("val") or {}


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Say of a fault that ends a training where it can go on."""
    from segmentation.checkpoints import LAST

    try:
        yield
    except Exception as error:
        line = explain(error, "train")
        if line is None or not (folder / LAST).is_file():
            raise
        raise UserError(f"{line}; then go on from {folder / LAST} by ckpt=auto hydra.run.dir={folder}") from error


def build_task(settings: dict[str, Any], data: "DataModule") -> "Task":
    """The network, its loss, optimizer and schedule, from the plain configuration."""
    from segmentation.models.network import Inputs, build_network
    from segmentation.targets import build
    from segmentation.task import Task

    inputs = Inputs(**{key: settings["data"][key] for key in Inputs._fields})
    network = build_network(model_settings(settings), len(data.classes), inputs)
    loss = build(settings["loss"], "loss")
    # After all that has random weights, so that without them a training is what it was.
    aux = build(settings["aux"], "aux", network=network, num_classes=len(data.classes)) if settings["aux"] else None
    task = Task(
        network,
        loss,
        aux=aux,
        optimizer=settings["optimizer"],
        scheduler=build(settings["scheduler"], "scheduler"),
        classes=data.classes,
        ignore_index=data.ignore_index,
        channels_last=settings["trainer"]["channels_last"],
    )
    if settings["trainer"]["compile"]:
        task.network.compile()  # in place: the names of the weights stay
    return task


def model_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The part of the configuration that the network is built from."""
    return {part: settings[part] for part in ("backbone", "decoder", "lstm")}


def describe(settings: dict[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """What a reader compares runs by, as flat scalars, for TensorBoard's table of hyper-parameters."""
    flat: dict[str, str | int | float | bool] = {}
    for key, value in settings.items():
        path = prefix + key
        if value is None or path in NOT_COMPARED:
            continue
        if isinstance(value, dict):
            flat |= describe(value, f"{path}.")
        else:
            flat[path] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat


def in_words(folder: str, scores: dict[str, Any]) -> str:
    """A run's scores in a line; nothing where nothing was tested, or every pixel is void."""
    if scores.get("mean_iou") is None:
        return ""
    return printable(f"{folder}: pixel accuracy {scores['pixel_accuracy']:.2%}, mean IoU {scores['mean_iou']:.2%}")


@command("train")
def main(config: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    several = str(config.trainer.devices) != "1" or config.trainer.num_nodes > 1
    launched = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1  # Slurm started a process for every device
    if hydra_config.mode is RunMode.MULTIRUN and several and not launched:
        train_apart(list(hydra_config.overrides.task), hydra_config.runtime.output_dir)
    else:
        scores = train(config)
        if is_first_process() and (line := in_words(config.output, scores)):
            say(line)


if __name__ == "__main__":
    main()
