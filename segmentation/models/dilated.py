"""Dilated convolutions, whose weights' gradient torch gets wrong on CPUs in bf16."""

from typing import Any

import torch
from torch import Tensor, nn

from segmentation.models.mixins import Mixin, mix

WHOLE = 16  # input channels of a group; multiples of it take another kernel, which is right


class InFloat32(Mixin):
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


def mend_dilated(network: nn.Module) -> None:
    """Mix `InFloat32` into the convolutions that need it, whatever their own class; names and weights stay."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and max(module.dilation) > 1 and module.in_channels // module.groups % WHOLE:
            mix(InFloat32, module)
