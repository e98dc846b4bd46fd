"""A command line tried in this process, as far as a moment allows: what it did, or the one line that it ended in."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from segmentation.cli import checked
from segmentation.config import CONF
from segmentation.data.scenes import CLASSES
from segmentation.errors import UserError
from segmentation.mistakes import explain, refused
from segmentation.registering import register

SMALL = (
    "data.size=[32,48]", "data.batch_size=2", "data.num_workers=0", "data.splits={train:4,val:1,test:1}",
    "trainer.accelerator=cpu", "trainer.precision=32", "lstm.hidden_size=4", "backbone.name=test_resnet",
    "callbacks.inspection.images=1",
)  # fmt: skip
ONE_STEP = (*SMALL, "trainer.fast_dev_run=true")  # without checkpoints, early stopping and loggers
# With all of them: an epoch of a batch, which is validated, and logged.
ONE_EPOCH = (
    *SMALL, "trainer.max_epochs=1", "++trainer.args.limit_train_batches=1", "++trainer.args.limit_val_batches=1",
    "++trainer.args.limit_test_batches=1",
)  # fmt: skip
WATCHED = (
    *ONE_EPOCH,
    "callbacks=[early_stopping,ema,freeze,cutmix]",
    "callbacks.freeze.backbone_stages=1",
    "test=false",
)
MOST_EPOCHS = 2  # that a try trains, whatever it is told
# A data set in files, as tests/world.py makes it.
FILES = (
    "data=folder", "data.root={folder}/files", f"data.classes=[{','.join(CLASSES)}]", "data.size=[32,48]",
    "data.splits={train:train.txt,val:null,test:null}", "data.group='(v.)_'",
)  # fmt: skip
CACHED = (*FILES, "data.cache={folder}/cache")
# What would start other processes, or fetch: composed and checked, and built, but not run.
NOT_RUN = ("trainer.devices", "trainer.num_nodes", "trainer.strategy", "data.download", "backbone.weights=pretrained",
           "data.num_workers", "find")  # fmt: skip


class UnexplainedError(AssertionError):
    """An error that would have reached the user with its traceback."""


def attempt(
    command: str, words: Sequence[str], folder: Path, *, run: bool = True, start: int = 0, fresh: bool = True
) -> str | None:
    """Try a command line.

    Args:
        command: its name.
        words: its overrides.
        folder: where files go.
        run: also call the command's own function.
        start: which of the command's `STARTS` the words follow.
        fresh: remove what an earlier try left of its run.

    Returns:
        The line of the error, or None where there was none.

    Raises:
        UnexplainedError: for an error without a line.
    """
    register()
    GlobalHydra.instance().clear()
    if fresh:
        shutil.rmtree(folder / "run", ignore_errors=True)
    first = first_words(command, folder, start)
    with patch.object(sys, "argv", ["segmentation", *first, *words]):
        try:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                composed = compose(command, overrides=[*first, *words])
        except Exception as error:
            return one_line(refused(error, command), command, words, error)
        try:
            config = checked(composed, command)
            if run and not any(word.lstrip("+").startswith(NOT_RUN) for word in words):
                RUNS[command](config, [*first, *words], folder)
        except Exception as error:
            return one_line(explain(error, command), command, words, error)
        return None


def one_line(line: str | None, command: str, words: Sequence[str], error: Exception) -> str:
    """The line, if it is one."""
    if not line or len(line.splitlines()) > 1 or "Traceback" in line:
        raise UnexplainedError(f"{command} {list(words)!r}: {line!r}") from error
    return line


def train_a_moment(config: DictConfig, words: list[str], folder: Path) -> None:
    """A step or two of training, validation and test, where the words leave it at that."""
    from segmentation.train import train

    config.trainer.max_epochs = min(config.trainer.max_epochs, MOST_EPOCHS)
    train(config)


def evaluate_model(config: DictConfig, words: list[str], folder: Path) -> None:
    """The test of a tiny model on three scenes."""
    from segmentation.evaluate import described_data, evaluate

    evaluate(config, described_data(config, words, any(word.startswith("data=") for word in words)), folder / "test")


def predict_image(config: DictConfig, words: list[str], folder: Path) -> None:
    """The mask of one small picture."""
    from segmentation.predict import predict

    options: Any = OmegaConf.to_container(config)
    predict(config.model, config.input, config.output, config.accelerator, config.trust, options)


def export_model(config: DictConfig, words: list[str], folder: Path) -> None:
    """What is asked of an export before it begins, which alone takes seconds."""
    from segmentation.export import check_request

    size: Any = None if config.size is None else OmegaConf.to_container(config.size)
    check_request(config.format, Path(config.output), size)


def push_nothing(config: DictConfig, words: list[str], folder: Path) -> None:
    """The list of what would be sent."""
    from segmentation.push import prepare

    prepare(config.model)


def survey(config: DictConfig, words: list[str], folder: Path) -> None:
    """The whole survey of six scenes."""
    from segmentation.check_data import check_data

    check_data(config, folder / "check")


def measure_nothing(config: DictConfig, words: list[str], folder: Path) -> None:
    """A benchmark, of whose sections it is only asked whether they are there."""
    from segmentation.benchmark import benchmark
    from segmentation.targets import check_targets

    check_targets(OmegaConf.to_container(config.benchmark, resolve=True))
    config.benchmark.sections = {}
    benchmark(config, folder / "bench")


def repeat_nothing(config: DictConfig, words: list[str], folder: Path) -> None:
    """All of a repetition up to the start of its first run."""
    from segmentation.check_repeat import check_repeat

    def stop(words: list[str], folder: str) -> None:
        raise UserError("nothing is started here")

    with suppress_only("nothing is started here"):
        check_repeat(config, folder / "repeat", stop)


@contextmanager
def suppress_only(said: str) -> Iterator[None]:
    """Take this UserError for the end that it is."""
    try:
        yield
    except UserError as error:
        if str(error) != said:
            raise


Run = Callable[[DictConfig, list[str], Path], None]
RUNS: dict[str, Run] = {
    "train": train_a_moment, "evaluate": evaluate_model, "predict": predict_image, "export": export_model,
    "push": push_nothing, "check_data": survey, "benchmark": measure_nothing, "check_repeat": repeat_nothing,
}  # fmt: skip
RUN, MODEL = "output={folder}/run", "model={folder}/model"
# What may come before the words, so that a try takes a moment; the first where a test names none.
STARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "train": (
        (RUN, *ONE_STEP),
        (RUN, *ONE_EPOCH, "test=false"),
        (RUN, *WATCHED),
        (RUN, *ONE_EPOCH, *CACHED),
    ),
    "evaluate": ((MODEL, "accelerator=cpu"), (MODEL, "accelerator=cpu", *CACHED)),
    "predict": ((MODEL, "input={folder}/in", "output={folder}/out", "accelerator=cpu"),),
    "export": ((MODEL, "output={folder}/model.onnx"),),
    "push": ((MODEL, "repo=me/mine", "dry_run=true"),),
    "check_data": (("data.size=[32,48]", "data.splits={train:2,val:2,test:2}"), FILES),
    "check_repeat": ((RUN, *ONE_STEP), (RUN, *ONE_EPOCH, *CACHED)),
    "benchmark": ((RUN, *ONE_STEP, "benchmark=quick"), (RUN, *ONE_EPOCH, *CACHED, "benchmark=quick")),
}


def first_words(command: str, folder: Path, start: int = 0) -> list[str]:
    """One of a command's `STARTS`, in a folder."""
    return [word.replace("{folder}", str(folder)) for word in STARTS[command][start]]
