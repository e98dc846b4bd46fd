"""A network as a graph of operations, for any number of images, and of any size where nothing in it is laid out."""

import copy
import warnings
from typing import Any

import torch
from torch.export import Dim

from segmentation.errors import UserError
from segmentation.models.export.padding import settle_padding
from segmentation.models.network import Network
from segmentation.models.scans import Scan

# Of a size that is padded inside, to an odd number of times the coarsest stride; a graph for all sizes must not depend
# on it.
EXAMPLE = (70, 100)


def choose_size(network: Network, size: list[int] | None, trained: list[int] | None) -> list[int] | None:
    """[height, width] that the graph is for, or None for all.

    Args:
        network: a scan in it needs one size, for its order is laid out for one.
        size: asked for.
        trained: the size that the network was trained at; None: any.
    """
    if size is not None or not any(isinstance(part, Scan) for part in network.modules()):
        return size
    if trained is None:
        raise UserError(
            "size: a scan is laid out for one size, and the model saw images of many; give size=[height,width]"
        )
    return trained


def trace(network: Network, size: list[int] | None) -> Any:
    """The network as a program of torch.export, taking images [B, C, H, W] of this size, or of any."""
    network = copy.deepcopy(network.eval()).requires_grad_(False)  # what is written is compared with the original
    image = torch.rand(2, network.channels, *(size or EXAMPLE))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The tensor attributes")  # of torch's own LSTM, which keeps a list of weights
        if not size:
            settle_padding(network, image)
        network(image)  # scans keep their layouts from here on, and the graph takes them as constants
        dynamic = (0,) if size else (0, 2, 3)
        try:
            return torch.export.export(
                network, (image,), dynamic_shapes={"image": dict.fromkeys(dynamic, Dim.DYNAMIC)}, strict=False
            )
        except Exception as error:  # of many classes, for parts of a network that torch cannot trace
            advice = "" if size else "; size=[height,width] may be traced where all sizes are not"
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"model: torch cannot trace it{advice}: {reason}") from error
