"""One thread of a CPU for a recurrent layer over few sequences, where threads that meet at every step cost more."""

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segmentation.models.precision import computed_in

# Sequences: on two cores one thread took 0.6 to 0.9 of the time of two, for 32 sequences 1.1 (docs/benchmark.md).
FEW = 16


def better_alone(sequences: Tensor) -> bool:
    """Whether a recurrent layer over these, [B, L, C], is faster in one thread: a few, in bf16, on a CPU with AMX.

    There a step's product is over before threads have met. Without AMX, and in float32, it is not. A graph that is
    recorded, for any number of sequences, is not asked how many it has.
    """
    if sequences.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return computed_in(sequences) == torch.bfloat16 and has_amx() and len(sequences) <= FEW


@functools.cache
def has_amx() -> bool:
    """Whether this CPU multiplies tiles of bf16."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


@contextmanager
def one_thread() -> Iterator[None]:
    """What torch computes inside is computed in one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread_backward(result: Tensor, inputs: Tensor) -> None:
    """The gradients of recurrent layers between these, when their time comes, likewise."""
    alone = ExitStack()

    def part(gradients: Any) -> None:
        alone.enter_context(one_thread())

    def meet(inputs: Any, outputs: Any) -> None:
        alone.close()

    waiting, seen = [result.grad_fn], {inputs.grad_fn, None}
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [one for one, _ in node.next_functions]
            if "Rnn" in node.name():
                node.register_prehook(part)
                node.register_hook(meet)
