"""What happens to a training, in its own process: signals at a chosen place, disks that fill, memory that ends.

Each function is called in the process of a command before the command, see `tests.forked`.
"""

import gc
import io
import multiprocessing
import os
import resource
import signal
import subprocess
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from segmentation.checkpoints import LAST

FOLDER = "FAULTY_FOLDER"  # where a fault is to happen
PLACE = (
    "INTERRUPTED_AT"  # where a process is to send itself a signal: name of the place, how often, number of the signal
)
GROUP = "INTERRUPTED_TOGETHER"  # with what it has started, as a terminal and Slurm do


def strike() -> None:
    """In the process of a training: send it a signal when it has come to a place so many times."""
    from segmentation.task import Task

    if GROUP in os.environ:
        os.setpgid(0, 0)  # without the tests
    places: dict[str, tuple[Any, str]] = {
        "training": (Task, "training_step"), "validation": (Task, "validation_step"), "write": (os, "fsync"),
        "rename": (Path, "replace"), "saving": (os, "fsync")}  # fmt: skip
    name, times, number = os.environ[PLACE].split()
    owner, function = places[name]
    original, left = getattr(owner, function), int(times)
    if name == "saving":  # once more while the first signal is being answered
        os.environ[PLACE] = f"training 1 {number}"
        strike()

    def counted(*arguments: Any, **keywords: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and GROUP in os.environ:
            os.killpg(0, int(number))
        elif left == 0:
            os.kill(os.getpid(), int(number))
        return original(*arguments, **keywords)

    setattr(owner, function, counted)


def tear() -> None:
    """Kill a training when it has written half of a checkpoint."""
    original, left = torch.save, int(os.environ[PLACE].split()[1])

    def half(content: Any, file: Any) -> None:
        nonlocal left
        left -= 1
        whole = io.BytesIO()
        original(content, whole)
        file.write(whole.getvalue()[: None if left else whole.tell() // 2])
        if left == 0:
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half  # type: ignore[assignment]


def at(place: str, times: int, number: int) -> dict[str, Any]:
    """How to begin a process that sends itself a signal."""
    return {"prepare": tear if place == "content" else strike, "environment": {PLACE: f"{place} {times} {int(number)}"}}


def at_epoch(number: int, act: Callable[[], Any]) -> None:
    """Have something happen when an epoch has begun, once."""
    from segmentation.task import Task

    original, acts = Task.on_train_epoch_start, [act]

    def begin_epoch(task: Task) -> None:
        original(task)
        if task.trainer.current_epoch == number and acts:
            acts.pop()()

    Task.on_train_epoch_start = begin_epoch  # type: ignore[assignment, method-assign]


def limit_files() -> None:
    """No file may grow beyond some bytes from the second epoch on."""
    at_epoch(1, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY)))


def fill_disk() -> None:
    """Write until the disk is full."""

    def fill() -> None:
        file = os.open(Path(os.environ[FOLDER]) / "filler", os.O_WRONLY | os.O_CREAT)
        for size in (1 << 20, 1 << 10, 1):
            try:
                while True:
                    os.write(file, bytes(size))
            except OSError:
                continue  # this much no longer fits

    at_epoch(1, fill)


def lock_checkpoints() -> None:
    """Mount the folder of the checkpoints over itself, for reading only."""
    folder = Path(os.environ[FOLDER]) / "run" / LAST.parent
    words = (["--bind", str(folder), str(folder)], ["-o", "remount,ro,bind", str(folder)])
    at_epoch(1, lambda: [subprocess.run(["mount", *word], check=True) for word in words])


def unmount_data() -> None:
    """The data are gone from one moment to the next."""
    data = Path(os.environ[FOLDER])
    at_epoch(1, lambda: data.rename(data.with_name("elsewhere")))


def kill_worker() -> None:
    at_epoch(1, lambda: os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL))


def raise_memory() -> None:
    def fail() -> None:
        raise MemoryError

    at_epoch(1, fail)


def fill_memory() -> None:
    at_epoch(1, lambda: torch.empty(2**50))


def fill_gpu() -> None:
    def fail() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.00 GiB")

    at_epoch(1, fail)


def fail_first_job() -> None:
    """The first of a sweep's jobs fails; the second looks whether it still holds its network, and ends well."""
    from segmentation.task import Task

    first: list[Any] = []
    original = Task.on_train_epoch_start

    def begin_epoch(task: Task) -> None:
        original(task)
        if not first:
            first.append(weakref.ref(task.network))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.00 GiB")
        gc.collect()
        assert first[0]() is None, "the failed job's network is still there"

    Task.on_train_epoch_start = begin_epoch  # type: ignore[assignment, method-assign]
