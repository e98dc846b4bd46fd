"""How far an exported network is from the one it was made of."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from segmentation.models.export.tracing import EXAMPLE

BATCHES = (1, 2, 3)


class Difference(NamedTuple):
    batch: int
    height: int
    width: int
    logits: float  # the largest absolute difference
    labels: float  # share of pixels whose most probable class is the same


def test_sizes(fixed: Sequence[int] | None) -> list[tuple[int, int]]:
    """(height, width) to compare at: the only one, or some that are padded inside and some that are not."""
    if fixed:
        return [(fixed[0], fixed[1])]
    return [EXAMPLE, (64, 96), (33, 130), (160, 128)]


def compare(
    network: nn.Module, exported: nn.Module, sizes: Sequence[tuple[int, int]], channels: int = 3
) -> list[Difference]:
    """Both on the same random images: every size with a single image, the first with several."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, *sizes[0]) for batch in BATCHES] + [(1, *size) for size in sizes[1:]]
    found = []
    for batch, height, width in shapes:
        image = torch.rand(batch, channels, height, width, generator=generator)
        with torch.inference_mode():
            first, second = network(image), exported(image)
        same = (first.argmax(1) == second.argmax(1)).float().mean().item()
        found.append(Difference(batch, height, width, (first - second).abs().max().item(), same))
    return found
