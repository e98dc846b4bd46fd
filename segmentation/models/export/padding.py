"""timm's `SAME` padding, as numbers instead of as formulas of the image's size.

Of an image of any size each such convolution computes its padding from its map's size, and so from the padding of
every one before: a graph for all sizes took torch's exporter minutes where there are three of them. But a `Network`
pads its images to a multiple of its coarsest stride, and where a stride divides the map that it steps over, the padding
is the same for every size.
"""

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn


def settle_padding(network: nn.Module, image: Tensor) -> None:
    """Replace in place the convolutions whose padding is the same for every size.

    Args:
        network: whose strides divide what it pads its images to.
        image: [B, C, H, W] of which the coarsest map has an odd side, so that a stride beyond is seen not to divide.
    """
    dividing: set[nn.Module] = set()

    def look(module: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        sides = zip(inputs[0].shape[-2:], module.stride, strict=True)
        if not any(side % stride for side, stride in sides):
            dividing.add(module)

    same = {name: part for name, part in network.named_modules() if isinstance(part, Conv2dSame)}
    hooks = [part.register_forward_pre_hook(look) for part in same.values()]
    network(image)
    for hook in hooks:
        hook.remove()
    for name, part in same.items():
        if part in dividing:
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, settled(part))


def settled(convolution: nn.Conv2d) -> nn.Sequential:
    """The same convolution after padding that is the right one for all maps which its stride divides."""
    with torch.device("meta"):
        plain = nn.Conv2d(
            convolution.in_channels,
            convolution.out_channels,
            convolution.kernel_size,  # type: ignore[arg-type]  # torch types it as a tuple of any length
            convolution.stride,  # type: ignore[arg-type]
            dilation=convolution.dilation,  # type: ignore[arg-type]
            groups=convolution.groups,
            bias=convolution.bias is not None,
        )
    plain.weight, plain.bias = convolution.weight, convolution.bias
    sides: list[int] = []
    for kernel, dilation, stride in zip(plain.kernel_size, plain.dilation, plain.stride, strict=True):
        total = max(0, (kernel - 1) * dilation + 1 - stride)
        sides = [total // 2, total - total // 2, *sides]  # the last axis comes first
    return nn.Sequential(nn.ZeroPad2d(tuple(sides)), plain)  # type: ignore[arg-type]
