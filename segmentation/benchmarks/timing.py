"""Several subjects measured in turn, so that what slows the machine down for a while slows all of them."""

import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from segmentation.cost import device_name, synchronise
from segmentation.models.native import library
from segmentation.trainer import build_trainer

PRODUCTS = 10  # of which the fastest counts
MATRIX = {"cpu": 2048, "cuda": 8192}  # rows and columns of the product whose speed is taken for the machine's peak


class Computing(NamedTuple):
    """Where a training computes, and in which precision."""

    device: torch.device
    context: Callable[[], AbstractContextManager[None]]  # autocast, where the precision is mixed

    @classmethod
    def of(cls, settings: Mapping[str, Any], folder: Path) -> "Computing":
        """As the configuration of a training says."""
        trainer = build_trainer(settings["trainer"], folder)
        return cls(trainer.strategy.root_device, trainer.precision_plugin.forward_context)


def in_turn(
    subjects: Mapping[str, Callable[[], float]], repetitions: int, what: str, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """What each subject returns, in every repetition once.

    Args:
        subjects: by name; each runs once and returns its figure.
        repetitions: counted ones.
        what: is said while it goes on.
        warm_up: one repetition before, which does not count.
    """
    values: dict[str, list[float]] = {name: [] for name in subjects}
    for repetition in range(1 - warm_up, repetitions + 1):
        for name, run in subjects.items():
            value = run()
            if repetition:
                values[name].append(value)
        counted = f"repetition {repetition} of {repetitions}" if repetition else "warmed up"
        print(f"{what}: {counted}", flush=True)
    return values


def milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """How long some work takes on a device."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return 1000 * (time.perf_counter() - start)


def matrix_product(device: torch.device, dtype: torch.dtype) -> Callable[[], float]:
    """Measures FLOP/s of a large matrix product: as fast as this machine computes in this precision."""
    size = MATRIX[device.type]
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return lambda: 2 * size**3 / (min(milliseconds(lambda: left @ right, device) for _ in range(PRODUCTS)) / 1000)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the figures were taken on, and with."""
    return {
        "device": device_name(device),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "CPU kernels": "this project's" if library() else "torch's",
        "date": time.strftime("%Y-%m-%d"),
    }
