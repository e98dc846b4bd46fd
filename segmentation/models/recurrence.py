"""First-order linear recurrences, solved step by step or in parallel: what minimal recurrent cells consist of.

`state[t] = decay[t] * state[t-1] + drive[t]` needs no step-by-step pass: two steps make one of the same form, so that
half as many remain, and so on (Blelloch, 1990; Martin & Cundy, 2018). The work stays linear, the depth is logarithmic.
"""

import functools
import warnings
from collections.abc import Callable
from importlib.util import find_spec
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


def fastest(drive: Tensor) -> Solver:
    """How to solve a recurrence of this size on this device."""
    if drive.device.type == "cpu":
        return in_turn if drive[0].numel() >= WIDE else in_parallel
    suits = drive.ndim == 3 and drive.dtype in (torch.float32, torch.float64)  # sums over many steps need that much
    return (kernel_of(drive.device) if suits else None) or in_parallel


@functools.cache
def fused(device: torch.device) -> Solver | None:
    """The kernel for a GPU, if it can be built there and computes the same: Triton needs a C compiler, and a card that
    it knows.
    """
    if device.type != "cuda" or find_spec("triton") is None:
        return None
    try:
        from segmentation.models.fused import in_one_pass

        kernel: Solver = in_one_pass
        check(kernel, device)
    except torch.OutOfMemoryError:
        raise  # says nothing of the kernel, and is not remembered
    except AssertionError:
        reason = "it computes something else on this card; please report it"
    except Exception as error:  # each thing that can be missing raises what it likes
        lines = str(error).strip().splitlines() or [""]
        reason = f"it needs gcc and Python's headers ({type(error).__name__}: {lines[0]})"
    else:
        return kernel
    warnings.warn(f"lstm.cell: scanning without the Triton kernel, so slower: {reason}", stacklevel=2)
    return None


kernel_of: Callable[[torch.device], Solver | None] = torch.compiler.disable(fused)  # type: ignore[no-untyped-call]


def check(solve: Solver, device: torch.device) -> None:
    """Raise unless it solves small recurrences as the definition does; no random number is drawn for it."""
    # Aligned states as a cell lays them out, and ragged ones with a drive of one number, as a gradient can be: Triton
    # builds another kernel for each.
    for width, reverse, constant in ((32, False, False), (32, True, False), (5, True, True)):
        numbers = torch.arange(3 * 300 * 2 * width, device=device, dtype=torch.float32).sin().abs()
        decay, drive = numbers.view(3, 300, 2 * width).transpose(0, 1).chunk(2, -1)
        drive = drive[:1, :1, :1].expand_as(drive) if constant else drive
        found, wanted = torch.empty_like(decay), torch.empty_like(decay)
        solve(found, decay, drive, decay[0], reverse)
        in_turn(wanted, decay, drive, decay[0], reverse)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


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
