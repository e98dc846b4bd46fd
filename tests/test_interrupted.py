"""Trainings that are killed or told to stop at any moment end, once they go on, as if nothing had happened."""

import os
import random
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from segmentation.checkpoints import LAST
from tests.forked import SMALL, begin, run

# Together they have whatever a training remembers: averages, sums of gradients, schedules, patience.
FULL = (*SMALL, "callbacks=[ema,early_stopping]", "callbacks.ema.decay=0.8", "data.batch_size=4",
        "trainer.accumulate_grad_batches=2", "scheduler=one_cycle", "trainer.max_epochs=3")  # fmt: skip
KINDS: dict[str, tuple[str, ...]] = {
    "everything": FULL,
    "workers": (*SMALL, "data.num_workers=2", "trainer.max_epochs=3", "scheduler=cosine"),
    "sgd": (*SMALL, "optimizer=sgd", "+optimizer.args.momentum=0.9", "callbacks=freeze", "callbacks.freeze.epochs=1",
            "callbacks.freeze.parts=[backbone]", "trainer.max_epochs=3"),
    "loss": (*SMALL, "monitor=train/loss", "trainer.max_epochs=3", "trainer.precision=bf16"),
}  # fmt: skip
PLACE = "INTERRUPTED_AT"  # where a process is to send itself a signal: name of the place, how often, number of the signal


def strike() -> None:
    """In the process of a training: send it a signal when it has come to a place so many times."""
    from segmentation.task import Task

    places: dict[str, tuple[Any, str]] = {
        "training": (Task, "training_step"), "validation": (Task, "validation_step"), "write": (os, "fsync"),
        "rename": (Path, "replace")}  # fmt: skip
    name, times, number = os.environ[PLACE].split()
    owner, function = places[name]
    original, left = getattr(owner, function), int(times)

    def counted(*arguments: Any, **keywords: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), int(number))
        return original(*arguments, **keywords)

    setattr(owner, function, counted)


def at(place: str, times: int, number: int) -> dict[str, Any]:
    """How to begin a process that sends itself a signal."""
    return {"prepare": strike, "environment": {PLACE: f"{place} {times} {int(number)}"}}


def timeless(state: Any) -> Any:
    """A checkpoint's content without times, and without a counter that only says whether a validation was repeated."""
    if isinstance(state, Mapping):
        left_out = ("seconds", "begun", "dirpath", "epoch_loop.val_loop.batch_progress")
        return {key: timeless(value) for key, value in state.items() if key not in left_out}
    return [timeless(value) for value in state] if isinstance(state, list | tuple) else state


def differences(first: Any, second: Any, where: str = "") -> Iterator[str]:
    """Where two checkpoints differ in a bit."""
    if isinstance(first, Mapping):
        yield from (f"{where}/{key}: in one only" for key in first.keys() ^ second.keys())
        for key in first.keys() & second.keys():
            yield from differences(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second, strict=True)):
            yield from differences(*pair, f"{where}/{index}")
    elif not (torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second):
        yield f"{where}: {first} {second}"


def assert_same(first: Path, second: Path) -> None:
    """Two finished trainings have equal weights, best epochs, histories, optimizers, schedules: to the bit."""
    states = []
    for folder in (first, second):
        state = timeless(torch.load(folder / LAST, weights_only=True))
        states.append({key: value for key, value in state.items() if key != "callbacks"})
        history = next(value for key, value in state["callbacks"].items() if key.startswith("History"))
        scores = {key: value.get("best_model_score", value.get("best_score")) for key, value in state["callbacks"].items()
                  if "Checkpoint" in key or "Stopping" in key}  # fmt: skip
        states[-1] |= {"history": history, "scores": scores}
    assert list(differences(*states)) == []
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`straight(kind)`: the folder of a training of this kind that nothing interrupted."""
    done: dict[str, Path] = {}

    def _straight(kind: str) -> Path:
        if kind not in done:
            done[kind] = tmp_path_factory.mktemp("straight") / "run"
            log = done[kind].parent / "log"
            assert run(*KINDS[kind], f"hydra.run.dir={done[kind]}", log=log) == 0, log.read_text()
        return done[kind]

    yield _straight


def go_on(kind: str, folder: Path) -> str:
    """Let a training go on to its end; what it said."""
    log = folder.parent / "log"
    assert run(*KINDS[kind], "ckpt=auto", f"hydra.run.dir={folder}", log=log) == 0, log.read_text()
    return log.read_text()


def kill(kind: str, folder: Path, place: str, draw: random.Random) -> bool:
    """Start a training, or let it go on, and kill it; whether it was killed before it ended."""
    words, log = (*KINDS[kind], "ckpt=auto", f"hydra.run.dir={folder}"), folder.parent / "log"
    if place != "anywhere":
        return run(*words, log=log, **at(place, draw.randint(1, 5), signal.SIGKILL)) == -signal.SIGKILL
    process = begin(*words, log=log)
    time.sleep(draw.uniform(0.5, 2.5))
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def test_killed_anywhere(straight: Any, tmp_path: Path) -> None:
    folder, draw = tmp_path / "run", random.Random(0)
    for place in ("write", "validation", "rename", "anywhere"):
        kill("everything", folder, place, draw)
    go_on("everything", folder)
    assert_same(straight("everything"), folder)


@pytest.mark.parametrize(
    ("place", "times", "number", "code", "said"),
    [
        ("training", 7, signal.SIGTERM, 143, "stopped by SIGTERM in epoch 1, after step 4; go on from"),
        ("training", 10, signal.SIGINT, 130, "stopped by SIGINT in epoch 1, after step 6; go on from"),
        ("validation", 5, signal.SIGTERM, 143, "stopped by SIGTERM in epoch 1, after step 6; go on from"),
    ],
)
def test_told_to_stop_it_saves_and_says_where(
    place: str, times: int, number: int, code: int, said: str, straight: Any, tmp_path: Path
) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    assert run(*FULL, f"hydra.run.dir={folder}", log=log, **at(place, times, number)) == code, log.read_text()
    assert f"{said} {folder / LAST} by ckpt=auto hydra.run.dir={folder}\n" in log.read_text()
    assert "Traceback" not in log.read_text()
    go_on("everything", folder)
    assert_same(straight("everything"), folder)
