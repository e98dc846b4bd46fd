"""What can take the LSTM's place, to tell what a gain is owed to: context in a certain order, or only capacity.

`MLP`, `Convolution` and `Attention` hold as many parameters as the SpatialLSTM that the same settings describe, within
5 % where it has 8 hidden units or more, work at the same stride, and are added to the map in the same way.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.models import orders
from segmentation.models.scans import Order, Scan
from segmentation.models.slot import Slot, count_parameters
from segmentation.models.spatial_lstm import SpatialLSTM

WIDEST = 4  # times the LSTM's width that a convolution of a control may have, as a transformer's MLP its tokens'
HEAD_WIDTH = 32  # channels of an attention head, as nearly as the width divides


def identity(channels: int, map_stride: int, **settings: Any) -> nn.Module:
    """`lstm=none`: the map goes on as it is; the LSTM's settings, which a sweep may set for all, have no effect."""
    return nn.Identity()


def lstm_parameters(channels: int, map_stride: int, **settings: Any) -> int:
    """How many parameters the SpatialLSTM of these settings has."""
    with torch.device("meta"):
        return count_parameters(SpatialLSTM(channels, map_stride, **settings))


def recurrent_layers(order: str | Sequence[str], combine: str, num_layers: int, **others: Any) -> int:
    """How many recurrent layers lie one behind the other in the SpatialLSTM of these settings."""
    scans = 1 if isinstance(order, str) or combine == "sum" else len(order)
    return scans * num_layers


class Convolutions(Slot):
    """Convolutions, each but the last with a GELU: what `MLP` and `Convolution` are, which differ in `kernel`.

    As many hidden layers as the SpatialLSTM has recurrent ones, one behind the other, and more where they would be more
    than `WIDEST` times as wide as its: behind a narrow map, all its parameters in one layer are a width of thousands.

    Args:
        channels: of the map.
        map_stride: pixels of the input that one position of the map stands for.
        settings: of the SpatialLSTM that it stands for, as for all controls.
    """

    kernel: int  # positions, the side of the kernel of every layer but the last, which is 1x1

    def __init__(self, channels: int, map_stride: int, **settings: Any) -> None:
        super().__init__(map_stride, stride=settings["stride"], residual=settings["residual"])
        budget = lstm_parameters(channels, map_stride, **settings)
        widest = WIDEST * settings["hidden_size"] * (1 + settings["bidirectional"])
        hidden = recurrent_layers(**settings)
        while (width := self.width(channels, hidden, budget)) > widest:
            hidden += 1
        layers: list[nn.Module] = []
        for inputs in [channels, *[width] * (hidden - 1)]:
            layers += [nn.Conv2d(inputs, width, self.kernel, padding=self.kernel // 2), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 1))

    def width(self, channels: int, hidden: int, budget: int) -> int:
        """Of so many hidden layers, so that all the parameters come to `budget`: a quadratic equation in the width."""
        area = self.kernel**2
        return positive_root(area * (hidden - 1), (area + 1) * channels + hidden, budget - channels)

    def mix(self, pooled: Tensor) -> Tensor:
        result: Tensor = self.layers(pooled)
        return result


class MLP(Convolutions):
    """1x1 convolutions: capacity, and no context at all."""

    kernel = 1


class Convolution(Convolutions):
    """3x3 convolutions and a 1x1: capacity, and context from near by, one position further with each hidden layer."""

    kernel = 3


class Attention(Slot):
    """Self-attention over all positions (Vaswani et al., 2017): context from everywhere, in no order.

    Positions are told by fixed sines and cosines of their row and column, which cost no parameters. Like the LSTM it
    brings the map to a width of its own, and back.
    """

    def __init__(self, channels: int, map_stride: int, **settings: Any) -> None:
        super().__init__(map_stride, stride=settings["stride"], residual=settings["residual"])
        budget = lstm_parameters(channels, map_stride, **settings)
        width = positive_root(4, 2 * channels + 7, budget - channels)
        if width >= 160:  # a multiple of 8 has many divisors, and is less than 5 % of the parameters away
            width = 8 * round(width / 8)
        self.heads = heads_of(width)
        self.embedding = nn.Linear(channels, width)
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mixing = nn.Linear(width, width)
        self.projection = nn.Linear(width, channels)

    def mix(self, pooled: Tensor) -> Tensor:
        batch, channels, height, width = pooled.shape
        embedded = self.embedding(pooled.flatten(2).transpose(1, 2))
        positions = encode_positions(height, width, embedded.shape[-1], pooled.device).to(embedded.dtype)
        tokens = embedded + positions.flatten(1).T
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.queries_keys_values(self.norm(tokens)).chunk(3, -1)
        )
        attended = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        result: Tensor = self.projection(tokens + self.mixing(attended))
        return result.transpose(1, 2).reshape(batch, channels, height, width)


class Frozen(SpatialLSTM):
    """A SpatialLSTM whose LSTM stays as initialised, in all its weights; only the projection behind it learns.

    What it gains, random mixing in the scan's order gains, without any learning of what to read and to remember.
    """

    def __init__(self, channels: int, map_stride: int, **settings: Any) -> None:
        super().__init__(channels, map_stride, **settings)
        self.scans.requires_grad_(False)


class Shuffled(SpatialLSTM):
    """A SpatialLSTM over a map whose positions are shuffled, always in the same way, and put back behind it.

    What it gains, context from everywhere gains, whoever stands beside whom: as many sequences, as long ones, as the
    LSTM's own orders make, of positions that are no neighbours.
    """

    def __init__(self, channels: int, map_stride: int, **settings: Any) -> None:
        super().__init__(channels, map_stride, **settings)
        for scan in self.scans.children():
            if isinstance(scan, Scan):
                scan.order = partial(shuffled, scan.order)


def shuffled(order: Order, height: int, width: int, **arguments: Any) -> Tensor:
    """A scan order that visits the positions of a shuffled map as the given one visits the map's."""
    visited = order(height, width, **arguments)
    return torch.where(visited >= 0, orders.shuffle(height, width)[0][visited], visited)


def positive_root(square: float, linear: float, constant: float) -> int:
    """The whole number from 1 up that is nearest to where `square` x^2 + `linear` x reaches `constant`."""
    return max(1, round(2 * constant / (linear + math.sqrt(linear**2 + 4 * square * constant))))


def heads_of(width: int) -> int:
    """The number of heads that divides the width into parts nearest to `HEAD_WIDTH`."""
    divisors = [count for count in range(1, width + 1) if width % count == 0]
    return min(divisors, key=lambda count: abs(math.log(width / count / HEAD_WIDTH)))


def encode_positions(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Sines and cosines of row and column [channels, height, width], wavelengths from 2 pi to 10,000 times that."""
    quarter = -(-channels // 4)
    rates = 10_000.0 ** (-torch.arange(quarter, device=device) / quarter)
    rows = (torch.arange(height, device=device)[:, None] * rates)[:, None].expand(-1, width, -1)
    columns = (torch.arange(width, device=device)[:, None] * rates)[None].expand(height, -1, -1)
    waves = torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()], -1)
    return waves.permute(2, 0, 1)[:channels]
