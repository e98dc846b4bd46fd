"""The linear recurrence on a GPU in one pass over memory, as a Triton kernel.

Halving the steps reads and writes every level of the halving; a kernel that keeps the state beside the arithmetic units
reads decays and drives once and writes the states once. Blocks of steps are scanned in parallel within a program
(Blelloch, 1990), and the state goes from block to block, as in the scans of selective state spaces (Gu & Dao, 2023).
"""

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
def scan_blocks(
    states,
    decay,
    drive,
    start,
    length,
    width,
    states_step,
    states_row,
    states_lane,
    decay_step,
    decay_row,
    decay_lane,
    drive_step,
    drive_row,
    drive_lane,
    start_row,
    start_lane,
    reverse: tl.constexpr,
    steps: tl.constexpr,
    lanes: tl.constexpr,
):
    """One of B rows and some of its H elements, from the first step to the last, `steps` at a time."""
    row = tl.program_id(0).to(tl.int64)  # offsets of large maps need more than 32 bits
    lane = (tl.program_id(1) * lanes + tl.arange(0, lanes)).to(tl.int64)
    inside = lane < width
    count = tl.arange(0, steps)
    state = tl.load(start + row * start_row + lane * start_lane, mask=inside, other=0.0)
    for begin in range(0, length, steps):
        step = begin + count
        known = (step < length)[:, None] & inside[None, :]
        now = (length - 1 - step if reverse else step).to(tl.int64)[:, None]
        kept = tl.load(decay + row * decay_row + now * decay_step + lane[None, :] * decay_lane, mask=known, other=1.0)
        added = tl.load(drive + row * drive_row + now * drive_step + lane[None, :] * drive_lane, mask=known, other=0.0)
        kept, added = tl.associative_scan((kept, added), 0, follow)
        block = added + kept * state[None, :]
        tl.store(states + row * states_row + now * states_step + lane[None, :] * states_lane, block, mask=known)
        state = tl.sum(tl.where(count[:, None] == steps - 1, block, 0.0), 0)


@torch.compiler.disable
def in_one_pass(states: Tensor, decay: Tensor, drive: Tensor, start: Tensor, reverse: bool) -> None:
    """Fill in the states [L, B, H], as `recurrence.Solver` says, of decays and drives [L, B, H] and a start [B, H]."""
    length, rows, width = drive.shape
    decay, start = decay.expand_as(drive), start.expand(rows, width)
    steps, warps = LONG if length >= LONG[0] else SHORT
    with torch.cuda.device_of(drive):  # Triton launches on the current device
        scan_blocks[(rows, triton.cdiv(width, LANES))](
            states,
            decay,
            drive,
            start,
            length,
            width,
            *states.stride(),
            *decay.stride(),
            *drive.stride(),
            *start.stride(),
            reverse=reverse,
            steps=steps,
            lanes=LANES,
            num_warps=warps,
        )
