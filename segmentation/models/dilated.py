"""Dilated convolutions, whose weights' gradient torch gets wrong on CPUs in bf16."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

WHOLE = 16  # input channels of a group; multiples of it take another kernel, which is right


class InFloat32(nn.Module):
    """Mixed into a convolution: trained on a CPU under autocast, it computes in float32 all the same.

    In bf16, channels-last and on maps some 30 wide or more, torch 2.14's gradient of its weights was not the gradient
    but noise as large, or not finite; those of its input and its output were right.
    """

    def forward(self, *arguments: Any) -> Tensor:
        if not self.training or not torch.is_autocast_enabled("cpu"):
            return super().forward(*arguments)  # type: ignore[no-any-return]
        with torch.autocast("cpu", enabled=False):
            return super().forward(*(argument.float() for argument in arguments))  # type: ignore[no-any-return]


def mend_dilated(network: nn.Module) -> None:
    """Mix `InFloat32` into the convolutions that need it, whatever their own class; names and weights stay."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and max(module.dilation) > 1 and module.in_channels // module.groups % WHOLE:
            found: Any = module  # mypy takes a class for nothing that can be hashed
            found.__class__ = mixed(found.__class__)


@functools.cache
def mixed(convolution: Any) -> Any:
    """The same class with `InFloat32` before it, under the same name."""
    return type(convolution.__name__, (InFloat32, convolution), {"__module__": convolution.__module__})
