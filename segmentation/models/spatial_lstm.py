"""SpatialLSTM: scan a feature map with a recurrent network, so that every position hears of all the others."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segmentation.errors import UserError, nearest
from segmentation.models.scans import Scan, bind_arguments
from segmentation.models.slot import Slot

COMBINATIONS = ("stack", "sum")


class SpatialLSTM(Slot):
    """A map in, a map of the same size and channels out, every position informed by its predecessors in the scan.

    Scanning rows, then columns, is ReNet (Visin et al., 2015); used before a pixel classifier it is ReSeg (Visin et
    al., 2016).

    Args:
        channels: of the map.
        map_stride: pixels of the input that one position of the map stands for.
        order: a scan order's name, a dotted path to one, or a list of them.
        order_args: keywords of the orders; each takes those it knows.
        combine: a list of orders one on the result of the other (`stack`), or all on the map and added (`sum`).
        cell: `lstm`, `gru`, `minlstm`, `mingru`, or the dotted path of a class with the arguments of torch's LSTM.
        hidden_size: of one direction.
        num_layers: of each scan's recurrent network.
        bidirectional: scan from both ends.
        residual: add the result to the map instead of putting it in its place.
        stride: pool the map to this stride before the scan and upsample the result; None scans the map as it is,
            `auto` means 16, or the map's own stride where that is coarser.
        chunk: compute so many steps of a scan again in the backward pass instead of keeping what they need for it.

    Raises:
        UserError: for unknown names, and a stride that is finer than the map's or no multiple of it.
    """

    def __init__(
        self,
        channels: int,
        map_stride: int,
        *,
        order: str | Sequence[str],
        order_args: Mapping[str, Any],
        combine: str,
        cell: str,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        residual: bool,
        stride: int | str | None,
        chunk: int | None = None,
    ) -> None:
        super().__init__(map_stride, stride=stride, residual=residual)
        if combine not in COMBINATIONS:
            raise UserError(f"lstm.combine={combine}: no such choice; {nearest(combine, COMBINATIONS)}")
        self.orders = names = [order] if isinstance(order, str) else list(order)
        if not names:
            raise UserError("lstm.order: an empty list; name at least one scan order")
        self.stacked = combine == "stack"
        settings: dict[str, Any] = {
            "cell": cell,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "bidirectional": bidirectional,
            "chunk": chunk,
        }
        self.scans = nn.ModuleList()
        width = channels
        for function, arguments in bind_arguments(names, order_args):
            scan = Scan(width, function, arguments, **settings)
            self.scans.append(scan)
            width = scan.out_channels if self.stacked else channels
        self.projection = nn.Conv2d(scan.out_channels, channels, 1)

    def mix(self, pooled: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H, W]: the scans, and a 1x1 convolution back to the map's channels."""
        if self.stacked:
            scanned = pooled
            for scan in self.scans:
                scanned = scan(scanned)
        else:
            scanned = torch.stack([scan(pooled) for scan in self.scans]).sum(0)
        result: Tensor = self.projection(scanned)
        return result
