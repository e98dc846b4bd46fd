"""First-order linear recurrences, solved step by step or in parallel: what minimal recurrent cells consist of.

`state[t] = decay[t] * state[t-1] + drive[t]` needs no step-by-step pass: two steps make one of the same form, so that
half as many remain, and so on (Blelloch, 1990; Martin & Cundy, 2018). The work stays linear, the depth is logarithmic.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Fills the states [L, ...], given first, from decays and drives of their shape, the state before the first step and
# whether the last step is the first: for a pass forward and, the other way, for its gradient.
Solver = Callable[[Tensor, Tensor, Tensor, Tensor, bool], None]

# With this many states a step, taking one step after another keeps a CPU's cores busy and reads memory once; halving
# reads it twice, but its few large operations win where steps are small (measured: docs/benchmark.md).
WIDE = 8192


def linear_recurrence(
    decay: Tensor, drive: Tensor, start: Tensor | None = None, *, reverse: bool = False, solve: Solver | None = None
) -> Tensor:
    """All states [L, ...] of `state[t] = decay[t] * state[t-1] + drive[t]`.

    Args:
        decay: [L, ...], time first.
        drive: of the same shape.
        start: [...], the state before the first step; None is zero.
        reverse: from the last step to the first, `state[t+1]` in place of `state[t-1]`.
        solve: how; None is what is fastest there. The result is the same, up to rounding.
    """
    begin = torch.zeros_like(drive[0]) if start is None else start
    states: Tensor = Recurrence.apply(decay, drive, begin, reverse, solve or fastest(drive))
    return states


def gated_recurrence(gates: Tensor, start: Tensor | None = None, *, reverse: bool = False) -> Tensor:
    """All states [L, ..., H] of `h[t] = k[t] * h[t-1] + (1 - k[t]) * c[t]`, k the sigmoid of a logit.

    Args:
        gates: [L, ..., 2H], the logits and the candidates c.
        start: [..., H], as for `linear_recurrence`.
        reverse: likewise.
    """
    logit, candidate = gates.chunk(2, -1)
    keep = torch.sigmoid(logit)
    drive = torch.addcmul(candidate, keep, candidate, value=-1)  # the rest, in one pass over memory
    return linear_recurrence(keep, drive, start, reverse=reverse)


def fastest(drive: Tensor) -> Solver:
    """How to solve a recurrence of this size on this device."""
    return in_turn if drive.device.type == "cpu" and drive[0].numel() >= WIDE else in_parallel


class Recurrence(torch.autograd.Function):
    """The recurrence, whose gradient is the same recurrence the other way: only decays and states are kept for it."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, drive: Tensor, start: Tensor, reverse: bool, solve: Solver) -> Tensor:
        states = torch.empty_like(drive)
        solve(states, decay, drive, start, reverse)
        ctx.save_for_backward(decay, states, start)
        ctx.reverse, ctx.solve = reverse, solve
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        decay, states, start = ctx.saved_tensors
        first, last = (-1, 0) if ctx.reverse else (0, -1)
        earlier, later = (slice(1, None), slice(0, -1)) if ctx.reverse else (slice(0, -1), slice(1, None))
        # What reaches a state is its own gradient and, through the next step, that one's decay times what reaches it.
        reaching = torch.empty_like(states)
        reaching[last] = gradient[last]
        if len(states) > 1:
            ctx.solve(reaching[earlier], decay[later], gradient[earlier], gradient[last], not ctx.reverse)
        to_decay = torch.empty_like(states)
        torch.mul(reaching[later], states[earlier], out=to_decay[later])
        torch.mul(reaching[first], start, out=to_decay[first])
        return to_decay, reaching, reaching[first] * decay[first], None, None


def in_turn(states: Tensor, decay: Tensor, drive: Tensor, start: Tensor, reverse: bool) -> None:
    """Fill in the states one step after another: the definition, and the faster form for few or wide steps."""
    state = start
    for now in range(len(drive) - 1, -1, -1) if reverse else range(len(drive)):
        state = torch.addcmul(drive[now], decay[now], state, out=states[now])


def in_parallel(states: Tensor, decay: Tensor, drive: Tensor, start: Tensor, reverse: bool) -> None:
    """Fill in the states: steps merged in pairs, the recurrence of half the length solved alike, the rest from that."""
    length = len(drive)
    first = length - 1 if reverse else 0
    torch.addcmul(drive[first], decay[first], start, out=states[first])
    if length == 1:
        return
    # The second steps of all pairs, the first ones, and the first ones that a pair precedes. In reverse the pairs are
    # counted from the end.
    pairs, followed = length // 2, (length - 1) // 2
    if reverse:
        second, leading = slice(length % 2, length - 1, 2), slice(length % 2 + 1, length, 2)
        rest, before = slice(1 - length % 2, length - 2, 2), slice(pairs - followed, pairs)
    else:
        second, leading = slice(1, length, 2), slice(0, length - 1, 2)
        rest, before = slice(2, length, 2), slice(0, followed)
    merged_decay = decay[second] * decay[leading]
    merged_drive = torch.addcmul(drive[second], decay[second], drive[leading])
    in_parallel(states[second], merged_decay, merged_drive, start, reverse)
    torch.addcmul(drive[rest], decay[rest], states[second][before], out=states[rest])
