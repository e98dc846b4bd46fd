"""Layers of other libraries' networks that compute by this project's kernels on CPUs, where those suit."""

from collections.abc import Iterator
from typing import Any

from timm.layers.norm_act import BatchNormAct2d
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from segmentation.models.layers import ForkFunction, GroupNormFunction, ReLUFunction, in_float32, learns, normalised
from segmentation.models.native import suits


class HastenedNorm(nn.BatchNorm2d):
    """Batch norm."""

    def forward(self, maps: Tensor) -> Tensor:
        return normalised(self, maps)


class HastenedNormAct(BatchNormAct2d):
    """timm's batch norm with an activation."""

    def forward(self, maps: Tensor) -> Tensor:
        result: Tensor = self.act(self.drop(normalised(self, maps)))
        return result


class HastenedGroupNorm(nn.GroupNorm):
    """Group norm."""

    def forward(self, maps: Tensor) -> Tensor:
        fits = in_float32(self.weight) and in_float32(self.bias)
        if not (fits and suits(maps) and maps.shape[1] == self.num_channels):
            return super().forward(maps)
        result: Tensor = GroupNormFunction.apply(maps, self.weight, self.bias, self.num_groups, float(self.eps))
        return result


class HastenedReLU(nn.ReLU):
    """ReLU."""

    def forward(self, maps: Tensor) -> Tensor:
        if not suits(maps):
            return super().forward(maps)
        result: Tensor = ReLUFunction.apply(maps, self.inplace)
        return result


class HastenedBasicBlock(BasicBlock):
    """timm's residual block of two convolutions: norm, sum and ReLU in one pass, if there is nothing else to it."""

    def forward(self, maps: Tensor) -> Tensor:
        return residual(self, maps) if suits(maps) and is_plain(self) else super().forward(maps)


class HastenedBottleneck(Bottleneck):
    """That of three, likewise."""

    def forward(self, maps: Tensor) -> Tensor:
        return residual(self, maps) if suits(maps) and is_plain(self) else super().forward(maps)


def residual(block: nn.Module, maps: Tensor) -> Tensor:
    """A residual block's result: its convolutions' and the shortcut past them, added."""
    maps, shortcut = ForkFunction.apply(maps)
    *inner, (convolution, norm) = steps(block)
    for earlier, its_norm in inner:
        maps = normalised(its_norm, earlier(maps), relu=True)
    downsample: Any = block.downsample
    shortcut = shortcut if downsample is None else downsample(shortcut)
    return normalised(norm, convolution(maps), shortcut)


def steps(block: nn.Module) -> Iterator[tuple[nn.Module, nn.BatchNorm2d]]:
    """Each convolution of a residual block and its norm."""
    for number in (1, 2, 3):
        if hasattr(block, f"conv{number}"):
            yield getattr(block, f"conv{number}"), getattr(block, f"bn{number}")


def is_plain(block: nn.Module) -> bool:
    """Whether it is convolutions, batch norms that learn, ReLUs and a shortcut, no more, and nobody watches them."""
    for name, child in block.named_children():
        kind = next((kind for start, kind in PARTS.items() if name.startswith(start)), nn.Identity)
        # A norm's or ReLU's own forward is not called, and so neither are hooks on it, which the diagnosis of numbers
        # that are not finite has.
        if name != "downsample" and (type(child) is not kind or child._forward_hooks or child._forward_pre_hooks):
            return False
    return all(learns(norm) for _, norm in steps(block))


PARTS = {"conv": nn.Conv2d, "bn": HastenedNorm, "act": HastenedReLU}  # of a residual block, by how names begin
# By a layer's own class, since one derived from it may do something else.
HASTENED: dict[type[nn.Module], Any] = {
    nn.BatchNorm2d: HastenedNorm,
    BatchNormAct2d: HastenedNormAct,
    nn.GroupNorm: HastenedGroupNorm,
    nn.ReLU: HastenedReLU,
    BasicBlock: HastenedBasicBlock,
    Bottleneck: HastenedBottleneck,
}


def hasten(network: nn.Module) -> None:
    """Give layers of a network the class that computes by this project's kernels; names, weights and places stay.

    Where the kernels compute, there are no gradients of gradients, and no torch.func; what reads Python instead of
    calling it (torch.fx, torch.jit.script) can do nothing with these classes.
    """
    for module in network.modules():
        if type(module) in HASTENED:
            module.__class__ = HASTENED[type(module)]
