"""Dilated convolutions, whose weights' gradient torch gets wrong on CPUs in bf16."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

WHOLE = 16  # input channels of a group; multiples of it take another kernel, which is right


class InFloat32(nn.Module):
    """Mixed into a convolution: where its weights learn on a CPU under autocast, it computes in float32 all the same.

    In bf16, channels-last and on maps some 30 wide or more, torch 2.14's gradient of its weights was not the gradient
    but noise as large, or not finite, on CPUs with AVX-512 (on those with AMX as well, only of depthwise
    convolutions); those of its input and its output were right.
    """

    weight: Tensor

    def forward(self, *arguments: Any) -> Tensor:
        learns = torch.is_grad_enabled() and self.weight.requires_grad
        if not (learns and torch.is_autocast_enabled("cpu")):
            return super().forward(*arguments)  # type: ignore[no-any-return]
        with torch.autocast("cpu", enabled=False):
            return super().forward(*(argument.float() for argument in arguments))  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """As any object's, but for the class, which pickle would look for in the module of the one it stands for."""
        return empty, (type(self).__bases__[1],), self.__dict__


def mend_dilated(network: nn.Module) -> None:
    """Mix `InFloat32` into the convolutions that need it, whatever their own class; names and weights stay."""
    for module in network.modules():
        if isinstance(module, InFloat32) or not isinstance(module, nn.Conv2d):
            continue
        if max(module.dilation) > 1 and module.in_channels // module.groups % WHOLE:
            found: Any = module  # for mypy a module's class cannot be a key of the cache
            found.__class__ = mixed(found.__class__)


@functools.cache
def mixed(convolution: Any) -> Any:
    """The same class with `InFloat32` before it, under the same name."""
    return type(convolution.__name__, (InFloat32, convolution), {"__module__": convolution.__module__})


def empty(convolution: Any) -> Any:
    """One of those, for pickle to fill."""
    kind = mixed(convolution)
    return kind.__new__(kind)
