"""Layers of other libraries' networks, mixed with what computes them by this project's kernels on CPUs."""

from collections.abc import Iterator
from typing import Any

from timm.layers.norm_act import BatchNormAct2d
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from segmentation.models.layers import Fork, ReLU, learns, normalised
from segmentation.models.mixins import Mixin, mix
from segmentation.models.native import suits


class HastenedNorm(Mixin):
    """Mixed into a batch norm."""

    def forward(self, maps: Tensor) -> Tensor:
        layer: Any = self
        return normalised(layer, maps)


class HastenedNormAct(Mixin):
    """Mixed into timm's batch norm with an activation."""

    def forward(self, maps: Tensor) -> Tensor:
        layer: Any = self
        if not (learns(layer) and suits(maps)):
            return super().forward(maps)  # type: ignore[no-any-return]
        return layer.act(layer.drop(normalised(layer, maps)))  # type: ignore[no-any-return]


class HastenedReLU(Mixin):
    """Mixed into a ReLU."""

    inplace: bool

    def forward(self, maps: Tensor) -> Tensor:
        if not suits(maps):
            return super().forward(maps)  # type: ignore[no-any-return]
        return ReLU.apply(maps, self.inplace)  # type: ignore[no-any-return]


class HastenedBlock(Mixin):
    """Mixed into a residual block of timm's ResNets: norm, sum and ReLU in one pass, if there is nothing else to it.

    A third of the passes over memory that they take one by one.
    """

    def forward(self, maps: Tensor) -> Tensor:
        layer: Any = self
        pairs = list(self.pairs())
        if not (self.plain() and suits(maps) and all(learns(norm) for _, norm in pairs)):
            return super().forward(maps)  # type: ignore[no-any-return]
        maps, shortcut = Fork.apply(maps)
        for convolution, norm in pairs[:-1]:
            maps = normalised(norm, convolution(maps), relu=True)
        if layer.downsample is not None:
            shortcut = layer.downsample(shortcut)
        convolution, norm = pairs[-1]
        return normalised(norm, convolution(maps), shortcut, relu=True)

    def pairs(self) -> Iterator[tuple[nn.Module, nn.BatchNorm2d]]:
        """Each convolution and its norm."""
        for number in (1, 2, 3):
            if hasattr(self, f"conv{number}"):
                yield getattr(self, f"conv{number}"), getattr(self, f"bn{number}")

    def plain(self) -> bool:
        """Whether it is convolutions, batch norms, ReLUs and a shortcut, and no more."""
        known = (nn.Conv2d, HastenedNorm, HastenedReLU, nn.Identity)
        return all(isinstance(child, known) for name, child in self.named_children() if name != "downsample")


# By a layer's own class, since one derived from it may do something else.
HASTENED: dict[type[nn.Module], type[Mixin]] = {
    nn.BatchNorm2d: HastenedNorm,
    BatchNormAct2d: HastenedNormAct,
    nn.ReLU: HastenedReLU,
    BasicBlock: HastenedBlock,
    Bottleneck: HastenedBlock,
}


def hasten(network: nn.Module) -> None:
    """Mix into the layers of a network what computes them by this project's kernels; names and weights stay."""
    for module in network.modules():
        if type(module) in HASTENED:
            mix(HASTENED[type(module)], module)
