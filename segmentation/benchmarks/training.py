"""Training and evaluation against the peer and against the bare loop; peak memory; the share of the machine's peak."""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from segmentation.benchmarks.contestants import Bare, Ours
from segmentation.benchmarks.elsewhere import Elsewhere
from segmentation.benchmarks.figures import Finding, ratio
from segmentation.benchmarks.timing import in_turn, matrix_product

ROUNDS = 3  # times the repetitions: what is asked of an evaluation is less than what the machine's speed varies by


def measure_training(
    settings: Mapping[str, Any],
    folder: Path,
    repetitions: int,
    *,
    batch_sizes: Sequence[int],
    steps: int,
    images: int,
    peer_precision: str,
    peer_workers: int,
    wanted: Mapping[str, Any],
) -> list[Finding]:
    """Images a second of training and evaluation, and what follows from them, for several batch sizes.

    Args:
        settings: the whole configuration.
        folder: for what the trainings write.
        repetitions: counted ones.
        batch_sizes: of an optimizer step.
        steps: of each repetition.
        images: of each repetition of an evaluation.
        peer_precision: Lightning's word for how the peer computes.
        peer_workers: processes that load for it.
        wanted: of the ratios, by name; `peer` by batch size.
    """
    findings = []
    for batch_size in batch_sizes:
        sized = {**settings, "data": {**settings["data"], "batch_size": batch_size}}
        ours = Ours(sized, folder, steps)
        ours.data()  # decoded into the cache before anything is measured
        bare = Bare(ours)
        with closing(Elsewhere("segmentation.benchmarks.contestants.Ours", sized, folder, steps)) as again:
            memory = {"this project": again.call("memory")}
        peer_arguments = (sized, folder, steps, bare.device.type, peer_precision, peer_workers)
        with closing(Elsewhere("segmentation.benchmarks.peer.Peer", *peer_arguments)) as peer:
            memory["peer"] = peer.call("memory")
            findings += measure_batch(ours, bare, functools.partial(peer.call, "train"), memory, repetitions, wanted)
    return [*findings, *measure_evaluation(ours, bare, images, repetitions, wanted)]


def measure_batch(
    ours: Ours,
    bare: Bare,
    peer: Callable[[], float],
    memory: Mapping[str, float | None],
    repetitions: int,
    wanted: Mapping[str, Any],
) -> list[Finding]:
    """Images a second of the three ways to train, their peak memory, and how near the machine's peak they come."""
    batch_size = ours.settings["data"]["batch_size"]
    part = f"training, batch {batch_size}"
    peak = matrix_product(bare.device, torch.bfloat16 if is_bf16(bare) else torch.float32)
    subjects = {"bare loop": bare.train, "this project": ours.train, "matrix product": peak, "peer": peer}
    rates = in_turn(subjects, repetitions, part, warm_up=False)
    found = {name: Finding(part, name, "images/s", rates[name]) for name in ("this project", "bare loop", "peer")}
    work = training_flops(bare) / batch_size
    achieved = [work * rate / peak for rate, peak in zip(rates["bare loop"], rates["matrix product"], strict=True)]
    kept = {name: Finding(part, f"{name}: peak memory", "MiB", [value]) for name, value in memory.items() if value}
    findings = [
        *found.values(),
        ratio(
            found["this project"], found["peer"], "this project / peer", at_least=wanted.get("peer", {}).get(batch_size)
        ),
        ratio(found["this project"], found["bare loop"], "this project / bare loop", at_least=wanted.get("bare")),
        Finding(part, "bare loop / matrix product, FLOP/s", "times", achieved, at_least=wanted.get("peak")),
        Finding(part, "matrix product", "GFLOP/s", [value / 1e9 for value in rates["matrix product"]]),
        *kept.values(),
    ]
    if len(kept) == 2:
        findings.append(ratio(kept["this project"], kept["peer"], "peak memory / peer's", at_most=wanted.get("memory")))
    return findings


def measure_evaluation(
    ours: Ours, bare: Bare, images: int, repetitions: int, wanted: Mapping[str, Any]
) -> list[Finding]:
    """Images a second of an evaluation, one image a forward, against nothing but the forward passes."""
    part = "evaluation"
    subjects = {"this project": lambda: ours.evaluate(images), "bare loop": lambda: bare.evaluate(images)}
    rates = in_turn(subjects, ROUNDS * repetitions, part)
    found = {name: Finding(part, name, "images/s", values) for name, values in rates.items()}
    over = ratio(
        found["this project"], found["bare loop"], "this project / bare loop", at_least=wanted.get("evaluation")
    )
    return [*found.values(), over]


def is_bf16(bare: Bare) -> bool:
    """Whether the training computes in bf16."""
    with bare.context():
        return (
            torch.is_autocast_enabled(bare.device.type) and torch.get_autocast_dtype(bare.device.type) == torch.bfloat16
        )


def training_flops(bare: Bare) -> int:
    """Floating-point operations of a step, forward and backward, as the matrix products and convolutions have them."""
    with FlopCounterMode(display=False) as counter:
        bare.step()
    return int(counter.get_total_flops())
