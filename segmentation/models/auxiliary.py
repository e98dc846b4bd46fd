"""Heads on a backbone's maps that help a training and are gone after it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.errors import UserError
from segmentation.models.hastened import hasten
from segmentation.models.network import Network

Loss = Callable[[Tensor, Tensor], Tensor]


class AuxiliaryHeads(nn.Module):
    """A small fully convolutional head on each of some maps of the backbone, whose losses are added to the network's.

    One on the last map but one is the auxiliary loss of PSPNet (Zhao et al., 2017); several are deep supervision (Lee
    et al., 2015). The network itself is not touched: neither its parameters nor its file know of them.

    Args:
        network: whose backbone they watch.
        num_classes: of the logits.
        maps: which of the backbone's maps, counted as Python counts, -1 for the last.
        weight: of the mean of their losses.
        dropout: share of a head's channels left out.
    """

    def __init__(
        self, network: Network, num_classes: int, *, maps: Sequence[int], weight: float, dropout: float = 0.1
    ) -> None:
        super().__init__()
        channels: list[int] = network.backbone.out_channels  # type: ignore[assignment]  # of the encoder, as smp has it
        outside = [place for place in maps if not -len(channels) <= place < len(channels) or not channels[place]]
        if not maps or outside:
            raise UserError(f"aux.maps={list(maps)}: this backbone has {len(channels)} maps; give some of them")
        self.maps, self.weight = list(maps), weight
        self.heads = nn.ModuleList(head(channels[place], num_classes, dropout) for place in maps)
        hasten(self.heads)
        self._seen: tuple[Sequence[Tensor], torch.Size] | None = None
        network.backbone.register_forward_hook(self._watch)

    def _watch(self, backbone: nn.Module, inputs: Any, maps: Sequence[Tensor]) -> None:
        if self.training and torch.is_grad_enabled():
            self._seen = maps, inputs[0].shape[-2:]

    def forward(self, loss: Loss, target: Tensor) -> Tensor:
        """What is added to the loss of the forward pass before this call, for labels [B, H, W]: a scalar."""
        assert self._seen is not None, "called without a forward pass of the network in training"
        maps, padded = self._seen
        self._seen = None  # the maps are not kept longer than the step
        height, width = target.shape[-2:]
        losses = []
        for place, module in zip(self.maps, self.heads, strict=True):
            logits = F.interpolate(module(maps[place]).float(), padded, mode="bilinear", align_corners=False)
            losses.append(loss(logits[..., :height, :width], target))
        return self.weight * torch.stack(losses).mean()


def head(channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    """A map [B, channels, h, w] to logits [B, num_classes, h, w]."""
    inner = max(16, channels // 4)
    return nn.Sequential(
        nn.Conv2d(channels, inner, 3, padding=1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(inplace=True),
        nn.Dropout2d(dropout),
        nn.Conv2d(inner, num_classes, 1),
    )
