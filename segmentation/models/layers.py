"""Norms, ReLU and sums on CPUs in bf16 by this project's kernels: torch's results, up to rounding."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from segmentation.models.native import run, suits


class BatchNormFunction(torch.autograd.Function):
    """Maps [B, C, H, W] by their own mean and variance, towards which the running ones move; see `normalised`."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        shortcut: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        running: tuple[Tensor, Tensor],  # mean and variance
        numbers: tuple[float, float],  # momentum and epsilon
        relu: bool,
    ) -> Tensor:
        result, channels = torch.empty_like(maps), maps.shape[1]
        mean, inverse = torch.empty_like(weight), torch.empty_like(weight)
        states = (weight, bias, *running, *numbers, mean, inverse, relu)
        run("batch_norm", maps, shortcut, result, *shape(maps), *states, *room(channels))
        ctx.save_for_backward(maps, weight, bias, mean, inverse, *([] if shortcut is None else [result]))
        ctx.relu = relu
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, bias, mean, inverse, *results = ctx.saved_tensors
        gradient, relu = gradient.contiguous(memory_format=torch.channels_last), ctx.relu
        if results:
            gradient, relu = before_relu(gradient, results[0]), False
        to_maps, to_weight, to_bias = torch.empty_like(maps), torch.empty_like(weight), torch.empty_like(bias)
        states = (weight, bias, mean, inverse, to_weight, to_bias, relu)
        run("batch_norm_backward", gradient, maps, to_maps, *shape(maps), *states, *room(maps.shape[1]))
        return to_maps, gradient if results else None, to_weight, to_bias, None, None, None


class GroupNormFunction(torch.autograd.Function):
    """Maps [B, C, H, W], each group of channels of an image by its own mean and variance."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        result, (images, channels) = torch.empty_like(maps), maps.shape[:2]
        mean, inverse = weight.new_empty(images, channels), weight.new_empty(images, channels)
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
        to_maps, to_weight, to_bias = torch.empty_like(maps), torch.zeros_like(weight), torch.zeros_like(weight)
        states = (weight, mean, inverse, to_weight, to_bias)
        run("group_norm_backward", gradient, maps, to_maps, *ctx.sizes, *states, *room(maps.shape[1]))
        return to_maps, to_weight, to_bias, None, None


class ReLUFunction(torch.autograd.Function):
    """Maps, in place where that is wanted."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, inplace: bool) -> Tensor:
        result = maps if inplace else torch.empty_like(maps)
        if inplace:
            ctx.mark_dirty(maps)
        run("relu", maps, result, maps.numel(), torch.get_num_threads())
        ctx.save_for_backward(result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        return before_relu(gradient.contiguous(memory_format=torch.channels_last), result), None


class ForkFunction(torch.autograd.Function):
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
        run("sum", one, two, result, result.numel(), torch.get_num_threads())
        return result


def before_relu(gradient: Tensor, result: Tensor) -> Tensor:
    """The gradient of what ReLU made the result of, from the result's."""
    before = torch.empty_like(result)
    run("relu_backward", gradient, result, before, result.numel(), torch.get_num_threads())
    return before


def shape(maps: Tensor) -> tuple[int, int]:
    """Pixels and channels."""
    return maps.numel() // maps.shape[1], maps.shape[1]


def room(channels: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """What the norms' kernels put aside meanwhile, and the number of threads that this is enough for."""
    threads = torch.get_num_threads()
    lines, partial = (
        torch.empty(*sizes, channels, dtype=torch.float32, device="cpu") for sizes in ((4,), (threads, 2))
    )
    return lines, partial, torch.empty_like(partial, dtype=torch.float64), threads


def normalised(norm: nn.BatchNorm2d, maps: Tensor, shortcut: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """A batch norm's result for maps [B, C, H, W], through ReLU if that is wanted.

    By the kernels where all of it suits them, otherwise by torch's.

    Args:
        norm: whose statistics move.
        maps: what is normed.
        shortcut: of a residual block, of the same shape: added to the result before ReLU, which then is always wanted.
        relu: wanted without one.
    """
    relu = relu or shortcut is not None
    fits = learns(norm) and suits(maps) and maps.shape[1] == norm.num_features and maps.numel() > maps.shape[1]
    if not (fits and (shortcut is None or (suits(shortcut) and shortcut.shape == maps.shape))):
        result = nn.BatchNorm2d.forward(norm, maps)
        result = result if shortcut is None else result + shortcut
        return result.relu() if relu else result
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked.add_(1)
    running, numbers = (norm.running_mean, norm.running_var), (float(norm.momentum), float(norm.eps))
    return BatchNormFunction.apply(maps, shortcut, norm.weight, norm.bias, running, numbers, relu)  # type: ignore[no-any-return]


def learns(norm: nn.BatchNorm2d) -> bool:
    """Whether it is in training, all of it in float32, and with statistics that are a plain moving average."""
    tensors = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return norm.training and norm.momentum is not None and all(map(in_float32, tensors))


def in_float32(tensor: Tensor | None) -> bool:
    """Whether it is there, and of numbers that the kernels take."""
    return (
        tensor is not None and tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.is_contiguous()
    )
