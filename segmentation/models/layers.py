"""Norms, ReLU and sums on CPUs in bf16 by this project's kernels: torch's results, up to rounding."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from segmentation.models.native import run, suits


class BatchNorm(torch.autograd.Function):
    """Maps [B, C, H, W] by their own mean and variance, towards which the running ones move; see `normalised`."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, shortcut: Tensor | None, weight: Tensor, bias: Tensor, *states: Any) -> Tensor:
        *running, relu = states  # mean, variance, momentum and epsilon
        result, channels = torch.empty_like(maps), maps.shape[1]
        mean, inverse = weight.new_empty(2, channels)
        numbers = (weight, bias, *running, mean, inverse)
        run("batch_norm", maps, shortcut, result, *shape(maps), *numbers, *room(channels), relu)
        ctx.save_for_backward(maps, weight, bias, mean, inverse, *([] if shortcut is None else [result]))
        ctx.relu = relu
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, bias, mean, inverse, *results = ctx.saved_tensors
        gradient, relu = gradient.contiguous(memory_format=torch.channels_last), ctx.relu
        if results and relu:
            gradient, relu = before_relu(gradient, results[0]), False
        to_maps, channels = torch.empty_like(maps), maps.shape[1]
        to_weight, to_bias = weight.new_empty(2, channels)
        numbers = (weight, bias, mean, inverse, to_weight, to_bias)
        run("batch_norm_backward", gradient, maps, to_maps, *shape(maps), *numbers, *room(channels), relu)
        return to_maps, gradient if results else None, to_weight, to_bias, *[None] * 5


class GroupNorm(torch.autograd.Function):
    """Maps [B, C, H, W], each group of channels of an image by its own mean and variance."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        result, (images, channels) = torch.empty_like(maps), maps.shape[:2]
        mean, inverse = weight.new_empty(2, images, channels)
        sizes = (images, shape(maps)[0] // images, channels, groups)
        run("group_norm", maps, result, *sizes, weight, bias, eps, mean, inverse, *room(channels))
        ctx.save_for_backward(maps, weight, mean, inverse)
        ctx.sizes = sizes
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, mean, inverse = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        to_maps, channels = torch.empty_like(maps), maps.shape[1]
        to_weight, to_bias = weight.new_zeros(2, channels)
        numbers = (weight, mean, inverse, to_weight, to_bias)
        run("group_norm_backward", gradient, maps, to_maps, *ctx.sizes, *numbers, *room(channels))
        return to_maps, to_weight, to_bias, None, None


class ReLU(torch.autograd.Function):
    """Maps, in place where that is wanted."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, inplace: bool) -> Tensor:
        result = maps if inplace else torch.empty_like(maps)
        if inplace:
            ctx.mark_dirty(maps)
        run("relu", maps, result, maps.numel())
        ctx.save_for_backward(result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        return before_relu(gradient.contiguous(memory_format=torch.channels_last), result), None


class Fork(torch.autograd.Function):
    """Maps for two uses, whose gradients are summed."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> tuple[Tensor, Tensor]:
        return maps.view_as(maps), maps.view_as(maps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, one: Tensor, two: Tensor) -> Tensor:
        if not (suits(one) and suits(two)):
            return one + two
        result = torch.empty_like(one)
        run("sum", one, two, result, result.numel())
        return result


def before_relu(gradient: Tensor, result: Tensor) -> Tensor:
    """The gradient of what ReLU made the result of, from the result's."""
    before = torch.empty_like(result)
    run("relu_backward", gradient, result, before, result.numel())
    return before


def shape(maps: Tensor) -> tuple[int, int]:
    """Pixels and channels."""
    return maps.numel() // maps.shape[1], maps.shape[1]


def room(channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the norms' kernels put aside meanwhile."""
    sums = (torch.get_num_threads(), 2, channels)
    return torch.empty(4, channels), torch.empty(sums), torch.empty(sums, dtype=torch.float64)


def normalised(norm: nn.BatchNorm2d, maps: Tensor, shortcut: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """A batch norm's result for maps [B, C, H, W], plus the shortcut of a residual block, through ReLU if it is wanted.

    By the kernels where all of it suits them, otherwise by torch's.
    """
    fits = learns(norm) and suits(maps) and maps.numel() > maps.shape[1]
    if not (fits and (shortcut is None or suits(shortcut))):
        result = nn.BatchNorm2d.forward(norm, maps)
        result = result if shortcut is None else result + shortcut
        return result.relu() if relu else result
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked.add_(1)
    states = (norm.weight, norm.bias, norm.running_mean, norm.running_var, float(norm.momentum), norm.eps)
    return BatchNorm.apply(maps, shortcut, *states, relu)  # type: ignore[no-any-return]


def learns(norm: nn.BatchNorm2d) -> bool:
    """Whether it is in training, with weights in float32, and with statistics that are a plain moving average."""
    plain = norm.affine and norm.track_running_stats and norm.momentum is not None
    return plain and norm.training and norm.weight.dtype == torch.float32
