"""torch's LSTM of one layer as one operation, with its gradient, that torch.compile and CUDA graphs take whole."""

import math
from typing import Any

import torch
from torch import Tensor

from segmentation.models import lstm_kernel
from segmentation.models.lstm_kernel import launch, run_backward, run_forward

CAPABILITY = (8, 0)  # with matrix products of bfloat16


def rounded(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """As a product takes them."""
    return weights.to(dtype).contiguous()


@torch.library.custom_op("segmentation::lstm", mutates_args=())
def lstm(
    mapped: Tensor, weights: Tensor, start: Tensor, cell: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """torch's LSTM of one layer behind its map of the input; a second direction runs from the end.

    Args:
        mapped: [B, L, D, 4H], what the input gives to the gates in torch's order, biases included.
        weights: [D, 4H, H], of the state to them.
        start: [B, D, H], the states before the first step.
        cell: [B, D, H], likewise.
        keep: what the gradient needs.

    Returns:
        All states [B, L, D, H]; in float32 the last cell of each direction [B, D, H]; gates [B, L, D, 4H] and cells
        [B, L, D, H], empty unless they are kept.
    """
    results = outputs(mapped, keep)
    states, last, gates, cells = results
    inputs = [mapped.contiguous(), rounded(weights, torch.float16), start.contiguous(), cell.contiguous()]
    launch(run_forward, *inputs, states, gates, cells, last, shape=states.shape, keep=keep)
    return results


def outputs(mapped: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Not yet filled."""
    rows, length, directions, width = mapped.shape
    shape = (rows, length, directions, width // 4)
    last = mapped.new_empty(rows, directions, width // 4, dtype=torch.float32)
    dtype = torch.float16 if mapped.dtype.itemsize == 2 else torch.float32  # of numbers between -1 and 1
    gates = mapped.new_empty(mapped.shape if keep else 0, dtype=dtype)
    return mapped.new_empty(shape), last, gates, mapped.new_empty(shape if keep else 0, dtype=torch.float32)


@torch.library.custom_op("segmentation::lstm_backward", mutates_args=())
def lstm_backward(
    gradient: Tensor, last_gradient: Tensor, weights: Tensor, cell: Tensor, gates: Tensor, cells: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of what the input gives to the gates, and of the first states and cells, from the results'."""
    to_mapped = gradient.new_empty(gates.shape)
    to_start, to_cell = (last_gradient.new_empty(cell.shape) for _ in range(2))
    inputs = [gradient.contiguous(), last_gradient.contiguous(), rounded(weights, torch.bfloat16), cell.contiguous()]
    launch(run_backward, *inputs, gates, cells, to_mapped, to_start, to_cell, shape=cells.shape)
    return to_mapped, to_start, to_cell


@lstm.register_fake
def _(
    mapped: Tensor, weights: Tensor, start: Tensor, cell: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return outputs(mapped, keep)


@lstm_backward.register_fake
def _(
    gradient: Tensor, last_gradient: Tensor, weights: Tensor, cell: Tensor, gates: Tensor, cells: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return gradient.new_empty(gates.shape), last_gradient.new_empty(cell.shape), last_gradient.new_empty(cell.shape)


def remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, weights, start, cell, _ = inputs
    states, _, gates, cells = output
    ctx.mark_non_differentiable(gates, cells)
    ctx.set_materialize_grads(False)  # those of the gates and cells would fill memory with zeros
    ctx.save_for_backward(weights, start, cell, states, gates, cells)


def backward(ctx: Any, gradient: Tensor | None, last_gradient: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    weights, start, cell, states, gates, cells = ctx.saved_tensors
    gradient = torch.zeros_like(states) if gradient is None else gradient
    last_gradient = torch.zeros_like(cells[:, 0]) if last_gradient is None else last_gradient
    to_mapped, to_start, to_cell = lstm_backward(gradient, last_gradient, weights, cell, gates, cells)
    to_weights = None
    if ctx.needs_input_grad[1]:  # [D, 4H, B*L] and [D, B*L, H]: one product for all steps
        before = looked_at(states, start)
        to_weights = torch.bmm(to_mapped.flatten(0, 1).permute(1, 2, 0), before.flatten(0, 1).transpose(0, 1))
        to_weights = to_weights.to(weights.dtype)
    return to_mapped, to_weights, to_start.to(start.dtype), to_cell.to(cell.dtype), None


def looked_at(states: Tensor, start: Tensor) -> Tensor:
    """The state that each step looked at [B, L, D, H]: the one before it in its direction."""
    before = torch.empty_like(states)
    for direction in range(states.shape[2]):
        one, own = before[:, :, direction], states[:, :, direction]
        first, later, earlier = (0, slice(1, None), slice(-1)) if direction == 0 else (-1, slice(-1), slice(1, None))
        one[:, first] = start[:, direction]
        one[:, later] = own[:, earlier]
    return before


lstm.register_autograd(backward, setup_context=remember)


def definition(mapped: Tensor, weights: Tensor, start: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """The states and last cells that `lstm` computes, step by step."""
    directions, last = [], []
    for direction in range(mapped.shape[2]):
        steps = mapped[:, :, direction].unbind(1)
        h, c, states = start[:, direction], cell[:, direction], []
        for own in steps if direction == 0 else reversed(steps):
            i, f, g, o = (own + h @ weights[direction].T).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        directions.append(torch.stack(states if direction == 0 else states[::-1], 1))
        last.append(c)
    return torch.stack(directions, 2), torch.stack(last, 1)


def check(device: torch.device, size: int) -> None:
    """Raise unless the kernels compute the definition and its gradients, in bfloat16; no random number is drawn."""
    for rows in (lstm_kernel.NARROW[0] + 1, lstm_kernel.FEW // 2 + 1):
        shapes = (rows, 5, 2, 4 * size), (2, 4 * size, size), (rows, 2, size), (rows, 2, size)
        numbers = [torch.arange(math.prod(shape), device=device).sin().view(shape) for shape in shapes]
        mapped, weights, start, cell = numbers[0].bfloat16(), numbers[1] / math.sqrt(size), numbers[2], numbers[3].cos()
        outward = torch.arange(rows * 5 * 2 * size, device=device).cos().view(rows, 5, 2, size)
        results = []
        for first, compute in ((mapped, lambda *inputs: lstm(*inputs, True)[:2]), (mapped.float(), definition)):
            inputs = [one.detach().requires_grad_() for one in (first, weights, start, cell)]
            states, last = compute(*inputs)
            loss = (states * outward).sum() + last.square().sum()
            results.append([one.float() for one in (states, last, *torch.autograd.grad(loss, inputs))])
        for found, wanted in zip(*results, strict=True):  # what rounding to half precision can do, by their norms
            torch.testing.assert_close((found - wanted).norm() / wanted.norm(), wanted.new_zeros(()), rtol=0, atol=0.02)
