"""The minimal cells' recurrence as one operation, with its gradient, that torch.compile and CUDA graphs take whole."""

from typing import Any

import torch
from torch import Tensor

from segmentation.models import gated_kernel
from segmentation.models.gated_kernel import launch, scan_backward, scan_forward
from segmentation.models.recurrence import gated_recurrence

CAPABILITY = (7, 0)  # Triton's own


@torch.library.custom_op("segmentation::gated_scan", mutates_args=())
def gated_scan(gates: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """`h[t] = k[t] * h[t-1] + (1 - k[t]) * c[t]`, k the sigmoid of a logit; a second direction runs from the end.

    Args:
        gates: [B, L, D, 2H], of each direction the logits and the candidates c.
        start: [B, D, H], the states before the first step.

    Returns:
        All states [B, L, D, H], and in float32 the last of each direction [B, D, H].
    """
    states, last = outputs(gates)
    launch(scan_forward, gates.contiguous(), start.contiguous(), states, last, shape=states.shape)
    return states, last


def outputs(gates: Tensor) -> tuple[Tensor, Tensor]:
    """Not yet filled."""
    rows, length, directions, width = gates.shape
    last = gates.new_empty(rows, directions, width // 2, dtype=torch.float32)
    return gates.new_empty(rows, length, directions, width // 2), last


@torch.library.custom_op("segmentation::gated_scan_backward", mutates_args=())
def gated_scan_backward(
    gradient: Tensor, last_gradient: Tensor, gates: Tensor, start: Tensor, states: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of the gates [B, L, D, 2H] and of the start [B, D, H], from those of the results."""
    inputs = [one.contiguous() for one in (gradient, last_gradient, gates, start, states)]
    to_gates, to_start = torch.empty_like(inputs[2]), torch.empty_like(inputs[3])
    launch(scan_backward, *inputs, to_gates, to_start, shape=states.shape)
    return to_gates, to_start


@gated_scan.register_fake
def _(gates: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    return outputs(gates)


@gated_scan_backward.register_fake
def _(gradient: Tensor, last_gradient: Tensor, gates: Tensor, start: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    return gates.new_empty(gates.shape), start.new_empty(start.shape)


def remember(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[0])


def backward(ctx: Any, gradient: Tensor, last_gradient: Tensor) -> tuple[Tensor, Tensor]:
    gates, start, states = ctx.saved_tensors
    results: tuple[Tensor, Tensor] = gated_scan_backward(gradient, last_gradient, gates, start, states)
    return results


gated_scan.register_autograd(backward, setup_context=remember)


def definition(gates: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """What `gated_scan` computes, by the recurrence as CPUs solve it."""
    scans = []
    for direction, one in enumerate(gates.unbind(2)):
        scan = gated_recurrence(one.transpose(0, 1), start[:, direction], reverse=direction == 1)
        scans.append(scan.transpose(0, 1))
    last = [scan[:, -1 if direction == 0 else 0] for direction, scan in enumerate(scans)]
    return torch.stack(scans, 2), torch.stack(last, 1)


def check(device: torch.device, size: int) -> None:
    """Raise unless the kernels compute the definition and its gradients; no random number is drawn for it."""
    for length in (gated_kernel.SHORT[0] + 3, gated_kernel.LONG[0] + 3):
        numbers = torch.arange(2 * length * 4 * size, device=device).sin()
        gates, start = 3 * numbers.view(2, length, 2, 2 * size), numbers[: 4 * size].view(2, 2, size)
        outward = numbers[: 2 * length * 2 * size].cos().view(2, length, 2, size)
        results = []
        for compute in (gated_scan, definition):
            inputs = [one.detach().requires_grad_() for one in (gates, start)]
            states, last = compute(*inputs)
            loss = (states * outward).sum() + last.square().sum()
            results.append([states, last, *torch.autograd.grad(loss, inputs)])
        torch.testing.assert_close(*results, rtol=1e-3, atol=1e-3)
