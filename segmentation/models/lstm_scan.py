"""torch's LSTM of one layer as one operation, with its gradient, that torch.compile and CUDA graphs take whole."""

import math
from typing import Any

import torch
from torch import Tensor

from segmentation.models.lstm_kernel import FEW, NARROW, launch, run_backward, run_forward


def rounded(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """As a product takes them; doubles, which only tests have, stay as they are."""
    return (weights if weights.dtype == torch.float64 else weights.to(dtype)).contiguous()


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
    precise = torch.promote_types(mapped.dtype, torch.float32)
    last = mapped.new_empty(rows, directions, width // 4, dtype=torch.float32)
    half = torch.float16 if mapped.dtype.itemsize == 2 else precise  # between -1 and 1
    gates = mapped.new_empty(mapped.shape if keep else 0, dtype=half)
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
    before = torch.empty_like(states)  # the state that each step looked at
    for direction in range(states.shape[2]):
        one, own, first = before[:, :, direction], states[:, :, direction], start[:, direction]
        (one[:, 0] if direction == 0 else one[:, -1]).copy_(first)
        (one[:, 1:] if direction == 0 else one[:, :-1]).copy_(own[:, :-1] if direction == 0 else own[:, 1:])
    # [D, 4H, B*L] and [D, B*L, H]: one product for all steps.
    to_weights = torch.bmm(to_mapped.flatten(0, 1).permute(1, 2, 0), before.flatten(0, 1).transpose(0, 1))
    return to_mapped, to_weights.to(weights.dtype), to_start.to(start.dtype), to_cell.to(cell.dtype), None


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
    """Raise unless the kernels compute the definition and its gradients; no random number is drawn for it."""
    for rows in (NARROW[0] + 1, FEW // 2 + 1):
        shapes = (rows, 5, 2, 4 * size), (2, 4 * size, size), (rows, 2, size), (rows, 2, size)
        found: list[Tensor] = []
        wanted: list[Tensor] = []
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            inputs = []
            for number, shape in enumerate(shapes):
                values = (
                    torch.arange(math.prod(shape), device=device, dtype=torch.float32).add(number).sin().view(shape)
                )
                inputs.append((values / math.sqrt(size) if number == 1 else values).requires_grad_())
            outward = torch.arange(rows * 5 * 2 * size, device=device).cos().view(rows, 5, 2, size)
            for results, (states, last) in ((found, lstm(*inputs, True)[:2]), (wanted, definition(*inputs))):
                loss = (states * outward).sum() + last.square().sum()
                results += [states, last, *torch.autograd.grad(loss, inputs)]
        weights_found, weights_wanted = (
            found.pop(3),
            wanted.pop(3),
        )  # sums over all sequences: as large as these are many
        torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2)  # products round to half precision
        torch.testing.assert_close(weights_found, weights_wanted, rtol=2e-2, atol=2e-2 * math.sqrt(rows))
