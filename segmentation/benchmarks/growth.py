"""How the LSTM's time and memory grow with the positions it scans."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segmentation.allocator import keep_freed_memory
from segmentation.benchmarks.figures import Finding
from segmentation.benchmarks.timing import Computing, in_turn, milliseconds
from segmentation.cost import peak_memory
from segmentation.models.spatial_lstm import SpatialLSTM

PART = "growth"


def measure_growth(
    settings: Mapping[str, Any],
    folder: Path,
    repetitions: int,
    *,
    sides: Sequence[int],
    channels: int,
    batch_size: int,
    cells: Sequence[str],
    chunk: int,
) -> list[Finding]:
    """Milliseconds and MiB of a pass forward and backward over square maps, and the power of the positions by which
    they grow: 1 is linear.

    Args:
        settings: the whole configuration, of which the `lstm` is taken.
        folder: of the trainer that knows device and precision.
        repetitions: counted ones.
        sides: of the maps, in positions.
        channels: of the maps.
        batch_size: maps.
        cells: each by itself, and the first in chunks too.
        chunk: steps.
    """
    keep_freed_memory()
    device, context = Computing.of(settings, folder)
    keywords = {key: value for key, value in settings["lstm"].items() if key != "_target_"}
    variants: dict[str, dict[str, Any]] = {cell: {"cell": cell, "chunk": None} for cell in cells}
    variants[f"{cells[0]} in chunks of {chunk}"] = {"cell": cells[0], "chunk": chunk}
    findings = []
    for name, changes in variants.items():
        module = SpatialLSTM(channels, 16, **{**keywords, **changes, "stride": None}).to(device)
        times, memory = [], []
        for side in sides:

            def work(side: int = side, module: torch.nn.Module = module) -> None:
                maps = torch.randn(batch_size, channels, side, side, device=device, requires_grad=True)
                with context():
                    result = module(maps)
                result.float().sum().backward()

            subject = f"{name}, {side * side} positions"
            taken = in_turn({"": lambda work=work: milliseconds(work, device)}, repetitions, f"{PART}: {subject}")  # type: ignore[misc]
            times.append(Finding(PART, subject, "ms", taken[""]))
            peak = peak_memory(work, device)
            if peak is not None:
                memory.append(Finding(PART, f"{subject}, memory", "MiB", [peak]))
        findings += [*times, *memory]
        for what, found in (("time", times), ("memory", memory)):
            if len(found) > 2:
                findings.append(
                    Finding(PART, f"{name}: {what} grows by the power", "of positions", [power(sides, found)])
                )
    return findings


def power(sides: Sequence[int], found: Sequence[Finding]) -> float:
    """The slope of a quantity against the positions, both as logarithms, over the larger half of the maps: what a small
    map takes is mostly spent on starting.
    """
    half = len(sides) // 2
    positions = [2 * math.log(side) for side in sides[half:]]
    return float(np.polyfit(positions, [math.log(max(finding.median, 1e-9)) for finding in found[half:]], 1)[0])
