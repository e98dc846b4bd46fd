"""What the LSTM costs: its share of a step and of a forward pass, its own overhead, and how cost grows with the map."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segmentation.allocator import keep_freed_memory
from segmentation.benchmarks.contestants import Bare, Ours
from segmentation.benchmarks.figures import Finding, ratio
from segmentation.benchmarks.timing import Computing, in_turn, milliseconds
from segmentation.models.scans import Scan, find_order
from segmentation.models.spatial_lstm import SpatialLSTM


def measure_share(
    settings: Mapping[str, Any],
    folder: Path,
    repetitions: int,
    *,
    strides: Sequence[int],
    orders: Sequence[str],
    cells: Sequence[str],
    wanted: Mapping[int, float],
) -> list[Finding]:
    """The LSTM's share of a training step and of a forward pass, at several strides.

    All orders are taken with the first of the cells, all cells with the first of the orders.

    Args:
        settings: the whole configuration; its `lstm` gives what the orders and cells do not.
        folder: for what a training writes.
        repetitions: counted ones.
        strides: pixels of the input that a scanned position stands for.
        orders: of the scan.
        cells: of the scan.
        wanted: stride to the percentage of a step that the first order's first cell may take.
    """
    keep_freed_memory()
    bare = Bare(Ours(settings, folder, 1))
    forward_bare = forward_of(bare)
    pairs = [(order, cells[0]) for order in orders] + [(orders[0], cell) for cell in cells[1:]]
    findings = []
    for stride in strides:
        part = f"LSTM at stride {stride}"
        steps = {f"{order}, {cell}": scan_step(bare, settings, stride, order, cell) for order, cell in pairs}
        subjects: dict[str, Callable[[], float]] = {
            "step": lambda: milliseconds(bare.step, bare.device),
            "forward": lambda: milliseconds(forward_bare, bare.device),
        }
        for name, (both, once) in steps.items():
            subjects[f"step {name}"] = lambda work=both: milliseconds(work, bare.device)  # type: ignore[misc]
            subjects[f"forward {name}"] = lambda work=once: milliseconds(work, bare.device)  # type: ignore[misc]
        taken = in_turn(subjects, repetitions, part)
        for number, name in enumerate(steps):
            for kind in ("step", "forward"):
                own, rest = taken[f"{kind} {name}"], taken[kind]
                shares = [100 * one / (one + other) for one, other in zip(own, rest, strict=True)]
                want = {"at_most": wanted[stride]} if kind == "step" and number == 0 and stride in wanted else {}
                findings.append(Finding(part, f"{name}: share of a {kind}", "%", shares, **want))
                findings.append(Finding(part, f"{name}: {kind}", "ms", own))
    return findings


def scan_step(
    bare: Bare, settings: Mapping[str, Any], stride: int, order: str, cell: str
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A pass forward and backward, and one forward alone, of a SpatialLSTM over a batch's maps of this stride."""
    classifier: Any = bare.task.network.classifier
    batch, channels = len(bare.batch["image"]), classifier.in_channels
    sides = [-(-side // stride) for side in bare.batch["image"].shape[-2:]]
    keywords = {key: value for key, value in settings["lstm"].items() if key != "_target_"}
    words = {**keywords, "order": order.split("+"), "cell": cell, "stride": None}
    module = SpatialLSTM(channels, stride, **words).to(bare.device)
    maps = torch.randn(batch, channels, *sides, device=bare.device).contiguous(memory_format=torch.channels_last)
    maps.requires_grad_()

    def both() -> None:
        with bare.context():
            result = module(maps)
        result.float().sum().backward()

    def once() -> None:
        with torch.inference_mode(), bare.context():
            module(maps)

    return both, once


def forward_of(bare: Bare) -> Callable[[], None]:
    """The network's forward pass over a batch, without gradients."""

    def forward() -> None:
        with torch.inference_mode(), bare.context():
            bare.task(bare.batch["image"], bare.batch["mask"].shape[-2:])

    return forward


def measure_overhead(
    settings: Mapping[str, Any],
    folder: Path,
    repetitions: int,
    *,
    size: Sequence[int],
    batch_size: int,
    channels: int,
    orders: Sequence[str],
    cell: str,
    wanted: Mapping[str, float],
) -> list[Finding]:
    """What scanning a map takes against torch's recurrent network alone on the same sequences, forward and backward.

    Args:
        settings: the whole configuration, of which the `lstm`'s widths are taken.
        folder: unused; nothing is written.
        repetitions: counted ones.
        size: of the map, in positions.
        batch_size: maps.
        channels: of the maps.
        orders: each by itself.
        cell: of both.
        wanted: how many times torch's own time an order of `one` sequence may take, and one of `several`.
    """
    keep_freed_memory()
    how = Computing.of(settings, folder)
    part, findings = f"scan against torch's {cell} alone", []
    for name in orders:
        scan, maps, sequences = scan_and_sequences(settings, name, cell, (batch_size, channels, *size), how.device)
        subjects = {
            "scan": timed(scan, maps, how),
            "alone": timed(scan.cell, sequences, how),
        }
        taken = in_turn(subjects, repetitions, f"{part}: {name}")
        own, alone = (Finding(part, f"{name}, {kind}", "ms", taken[kind]) for kind in ("scan", "alone"))
        single = len(sequences) == batch_size
        want = wanted.get("one" if single else "several")
        findings += [own, alone, ratio(own, alone, f"{name}, scan / alone", at_most=want)]
    return findings


def scan_and_sequences(
    settings: Mapping[str, Any], name: str, cell: str, shape: Sequence[int], device: torch.device
) -> tuple[Scan, Tensor, Tensor]:
    """A scan, random maps, and the sequences that the scan would make of such maps, as one batch."""
    lstm = settings["lstm"]
    widths = {key: lstm[key] for key in ("hidden_size", "num_layers", "bidirectional")}
    scan = Scan(shape[1], find_order(name), {}, cell=cell, chunk=None, **widths).to(device)
    rows, length = scan.order(*shape[-2:]).shape
    maps = torch.randn(*shape, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
    return scan, maps, torch.randn(shape[0] * rows, length, shape[1], device=device, requires_grad=True)


def timed(module: nn.Module, inputs: Tensor, how: Computing) -> Callable[[], float]:
    """Measures a pass forward and backward in milliseconds."""

    def work() -> None:
        with how.context():
            result = module(inputs)
        states = result[0] if isinstance(result, tuple) else result
        states.backward(torch.ones_like(states))

    return lambda: milliseconds(work, how.device)
