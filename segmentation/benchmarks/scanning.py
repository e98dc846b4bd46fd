"""What the LSTM costs: its share of a step and of a forward pass, its own overhead, and how cost grows with the map."""

import itertools
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
    wanted: Mapping[int, Mapping[str, float]],
) -> list[Finding]:
    """The LSTM's share of a training step and of a forward pass, at several strides.

    Args:
        settings: the whole configuration; its `lstm` gives what the orders and cells do not.
        folder: for what a training writes.
        repetitions: counted ones.
        strides: pixels of the input that a scanned position stands for.
        orders: of the scan.
        cells: of the scan.
        wanted: stride to cell to the percentage of a step that it may take with the first order.
    """
    keep_freed_memory()
    bare = Bare(Ours(settings, folder, 1))
    forward_bare = forward_of(bare)
    pairs = list(itertools.product(orders, cells))
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
        for name, (order, cell) in zip(steps, pairs, strict=True):
            for kind in ("step", "forward"):
                own, rest = taken[f"{kind} {name}"], taken[kind]
                shares = [100 * one / (one + other) for one, other in zip(own, rest, strict=True)]
                judged = kind == "step" and order == orders[0]
                want = wanted.get(stride, {}).get(cell) if judged else None
                findings.append(Finding(part, f"{name}: share of a {kind}", "%", shares, at_most=want))
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
        scans, maps = build_scans(settings, name, cell, (batch_size, channels, *size), how.device)
        owns = [torchs_own(scan, cell) for scan in scans]
        alone = [(own, steps) for own, scan in zip(owns, scans, strict=True) for steps in sequences_of(scan, maps)]
        subjects = {"scan": timed([(nn.Sequential(*scans), maps)], how), "alone": timed(alone, how)}
        taken = in_turn(subjects, repetitions, f"{part}: {name}")
        own, other = (Finding(part, f"{name}, {kind}", "ms", taken[kind]) for kind in ("scan", "alone"))
        single = all(len(sequences) == batch_size for _, sequences in alone)
        want = wanted.get("one" if single else "several")
        findings += [own, other, ratio(own, other, f"{name}, scan / alone", at_most=want)]
    return findings


def build_scans(
    settings: Mapping[str, Any], names: str, cell: str, shape: Sequence[int], device: torch.device
) -> tuple[list[Scan], Tensor]:
    """The scans of an order, or of several joined by `+`, one on the result of the other, and random maps."""
    lstm = settings["lstm"]
    widths = {key: lstm[key] for key in ("hidden_size", "num_layers", "bidirectional")}
    scans: list[Scan] = []
    for name in names.split("+"):
        channels = scans[-1].out_channels if scans else shape[1]
        scans.append(Scan(channels, find_order(name), {}, cell=cell, chunk=None, **widths).to(device))
    maps = torch.randn(*shape, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
    return scans, maps


def torchs_own(scan: Scan, cell: str) -> nn.Module:
    """torch's recurrent network in place of the scan's, which may have kernels of its own; where torch has none of this
    name, the scan's.
    """
    own: Any = scan.cell
    kind = getattr(nn, cell.upper(), None)
    if kind is None:
        return scan.cell
    module: nn.Module = kind(
        own.input_size, own.hidden_size, own.num_layers, batch_first=True, bidirectional=own.bidirectional
    )
    return module.to(next(own.parameters()).device)


def sequences_of(scan: Scan, maps: Tensor) -> list[Tensor]:
    """Random batches of sequences, as many and as long as the scan makes of such maps."""
    batch, _, height, width = maps.shape
    cell: Any = scan.cell
    groups = scan.plan(height, width, maps.device).groups
    return [
        torch.randn(batch * count, length, cell.input_size, device=maps.device, requires_grad=True)
        for count, length in groups
    ]


def timed(work: Sequence[tuple[nn.Module, Tensor]], how: Computing) -> Callable[[], float]:
    """Measures a pass of each module over its inputs, forward and backward, in milliseconds."""

    def run() -> None:
        for module, inputs in work:
            with how.context():
                result = module(inputs)
            states = result[0] if isinstance(result, tuple) else result
            states.backward(torch.ones_like(states))

    return lambda: milliseconds(run, how.device)
