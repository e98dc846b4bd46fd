"""The minimal cells' recurrence on a GPU in one pass over memory, as Triton kernels.

Halving the steps reads and writes every level of the halving; a kernel that keeps the state beside the arithmetic units
reads the gates once and writes the states once. Blocks of steps are scanned in parallel within a program (Blelloch,
1990), and the state goes from block to block, as in the scans of selective state spaces (Gu & Dao, 2023). The gradient
computes the gates again instead of keeping them.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LANES = 16  # elements of the state that a program takes
# Steps of a block and warps, the faster for long scans and for short ones (measured: docs/benchmark.md).
LONG, SHORT = (256, 8), (128, 4)


@triton.jit
def follow(decay, drive, next_decay, next_drive):
    """Two steps, one after the other, as one step."""
    return decay * next_decay, next_decay * drive + next_drive


@triton.jit
def logistic(logit):
    """Of any precision, in float32."""
    return 1.0 / (1.0 + tl.exp(-logit.to(tl.float32)))


@triton.jit(do_not_specialize=["length"])
def scan_forward(
    gates,
    start,
    states,
    last,
    length,
    directions: tl.constexpr,
    width: tl.constexpr,
    steps: tl.constexpr,
    lanes: tl.constexpr,
):
    """One of B rows, one of D directions and some of H elements, from its first step to its last, block by block."""
    row, direction = tl.program_id(0).to(tl.int64), tl.program_id(2)  # offsets of large maps need more than 32 bits
    lane = tl.program_id(1) * lanes + tl.arange(0, lanes)
    inside = lane < width
    begins = (row * directions + direction) * width + lane
    count = tl.arange(0, steps)
    state = tl.load(start + begins, mask=inside, other=0.0).to(tl.float32)
    for begin in range(0, length, steps):
        step = begin + count
        known = (step < length)[:, None] & inside[None, :]
        now = tl.where(direction == 0, step, length - 1 - step)
        place = ((row * length + now) * directions + direction)[:, None]
        logit = tl.load(gates + place * (2 * width) + lane[None, :], mask=known, other=float("inf"))  # keeps all
        candidate = tl.load(gates + place * (2 * width) + width + lane[None, :], mask=known, other=0.0).to(tl.float32)
        decay = logistic(logit)
        decay, drive = tl.associative_scan((decay, (1.0 - decay) * candidate), 0, follow)
        block = drive + decay * state[None, :]
        tl.store(states + place * width + lane[None, :], block.to(states.dtype.element_ty), mask=known)
        state = tl.sum(tl.where(count[:, None] == steps - 1, block, 0.0), 0)
    tl.store(last + begins, state, mask=inside)


@triton.jit(do_not_specialize=["length"])
def scan_backward(
    gradient,
    last_gradient,
    gates,
    start,
    states,
    to_gates,
    to_start,
    length,
    directions: tl.constexpr,
    width: tl.constexpr,
    steps: tl.constexpr,
    lanes: tl.constexpr,
):
    """The same the other way. What reaches a state is its own gradient and, through the next step, what that one keeps
    of what reaches it.
    """
    row, direction = tl.program_id(0).to(tl.int64), tl.program_id(2)
    lane = tl.program_id(1) * lanes + tl.arange(0, lanes)
    inside = lane < width
    begins = (row * directions + direction) * width + lane
    first = tl.load(start + begins, mask=inside, other=0.0).to(tl.float32)
    count = tl.arange(0, steps)
    reaching = tl.load(last_gradient + begins, mask=inside, other=0.0).to(tl.float32)
    for begin in range(0, length, steps):
        step = length - 1 - (begin + count)  # before the scan's first step they are negative
        known = (step >= 0)[:, None] & inside[None, :]
        later = (step >= 0)[:, None] & (step + 1 < length)[:, None] & inside[None, :]
        earlier = (step > 0)[:, None] & inside[None, :]
        ahead = tl.where(direction == 0, 1, -1)
        now = tl.where(direction == 0, step, length - 1 - step)
        place = ((row * length + now) * directions + direction)[:, None]
        after, before = place + ahead * directions, place - ahead * directions
        kept = logistic(tl.load(gates + after * (2 * width) + lane[None, :], mask=later, other=float("inf")))
        own = tl.load(gradient + place * width + lane[None, :], mask=known, other=0.0).to(tl.float32)
        kept, own = tl.associative_scan((kept, own), 0, follow)
        block = own + kept * reaching[None, :]
        logit = tl.load(gates + place * (2 * width) + lane[None, :], mask=known, other=0.0)
        candidate = tl.load(gates + place * (2 * width) + width + lane[None, :], mask=known, other=0.0).to(tl.float32)
        previous = tl.load(states + before * width + lane[None, :], mask=earlier, other=0.0).to(tl.float32)
        previous = tl.where((step == 0)[:, None], first[None, :], previous)
        decay = logistic(logit)
        to_logit = block * (previous - candidate) * decay * (1.0 - decay)
        to_candidate = block * (1.0 - decay)
        tl.store(to_gates + place * (2 * width) + lane[None, :], to_logit.to(to_gates.dtype.element_ty), mask=known)
        tl.store(
            to_gates + place * (2 * width) + width + lane[None, :],
            to_candidate.to(to_gates.dtype.element_ty),
            mask=known,
        )
        if begin + steps >= length:
            to_first = tl.sum(tl.where((step == 0)[:, None], block * decay, 0.0), 0)
            tl.store(to_start + begins, to_first, mask=inside)
        reaching = tl.sum(tl.where(count[:, None] == steps - 1, block, 0.0), 0)


def launch(kernel: Any, *tensors: Tensor, shape: torch.Size) -> None:
    """Run a kernel over states of this shape, [B, L, D, H]."""
    rows, length, directions, width = shape
    steps, warps = LONG if length >= LONG[0] else SHORT
    grid = (rows, triton.cdiv(width, LANES), directions)
    with torch.cuda.device_of(tensors[0]):  # Triton launches on the current device
        kernel[grid](*tensors, length, directions=directions, width=width, steps=steps, lanes=LANES, num_warps=warps)
