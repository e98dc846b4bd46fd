"""Images of any size: a network applied to overlapping windows, blended where they overlap."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.errors import UserError

Size = tuple[int, int]
BLOCK = 4096  # columns whose probabilities are held at once: wider images are done in strips, so memory stays bounded


class Part(NamedTuple):
    """Finished probabilities [C, h, w] of an image, and where they belong."""

    top: int
    left: int
    probabilities: Tensor


class Windowed(nn.Module):
    """A network that sees an image through overlapping windows, cut at the image's own scale.

    Every pixel's probabilities are the mean over the windows that cover it, weighted by a squared sine that falls
    towards a window's edges, where the network knows least. An image that fits a window is seen whole.

    Args:
        network: images [B, N, H, W] in 0...1 to logits, or log-probabilities, of the same size.
        size: height and width of a window.
        overlap: the least part of a window, 0 to below 1, that its neighbour covers as well.
        batch_size: windows in one forward.
        block: columns of an image that are held at once.
    """

    def __init__(self, network: nn.Module, size: Size, overlap: float, batch_size: int = 1, block: int = BLOCK) -> None:
        super().__init__()
        if not 0 <= overlap < 1:
            raise UserError(f"window.overlap={overlap}: give 0 to less than 1")
        if len(size) != 2 or min(size) < 1:
            raise UserError(f"window.size={list(size)}: give height and width in pixels")
        self.network = network
        self.size, self.overlap, self.batch_size, self.block = size, overlap, batch_size, block

    def forward(self, image: Tensor, size: Size | None = None) -> Tensor:
        """Images [B, N, H, W] in 0...1 to log-probabilities [B, C, *size], by default of their own size."""
        wholes = []
        for single in image:
            parts = list(self.parts(single))
            whole = parts[0].probabilities.new_empty(len(parts[0].probabilities), *image.shape[-2:])
            for top, left, found in parts:
                whole[:, top : top + found.shape[1], left : left + found.shape[2]] = found
            wholes.append(whole)
        logits = log(torch.stack(wholes))
        if size is not None and tuple(size) != tuple(image.shape[-2:]):
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        return logits

    def count(self, height: int, width: int) -> int:
        """How many windows an image takes."""
        tops = starts(height, self.size[0], self.overlap)
        return len(tops) * sum(len(lefts) for _, _, lefts in self.strips(width))

    def strips(self, width: int) -> Iterator[tuple[int, int, list[int]]]:
        """First and last column of each strip, and where the windows begin that reach into it."""
        lefts = starts(width, self.size[1], self.overlap)
        reach = min(self.size[1], width)
        for first in range(0, width, self.block):
            last = min(width, first + self.block)
            yield first, last, [left for left in lefts if left < last and left + reach > first]

    def parts(
        self,
        image: Tensor,
        seen: Callable[[int], object] = lambda windows: None,
        device: torch.device | None = None,
    ) -> Iterator[Part]:
        """The probabilities of an image, a few rows at a time, each pixel once.

        Args:
            image: uint8 [N, H, W], or floats in 0...1.
            seen: is told after every forward how many windows it took.
            device: where the network is; None for where the image is.
        """
        height, width = image.shape[-2:]
        rows, columns = min(self.size[0], height), min(self.size[1], width)
        tops = starts(height, rows, self.overlap)
        device = image.device if device is None else device
        weight = torch.outer(hill(rows), hill(columns)).to(device)
        for first, last, lefts in self.strips(width):
            total = norm = torch.zeros(0)
            for top, following in itertools.pairwise([*tops, height]):
                for some in batches(lefts, self.batch_size):
                    crops = torch.stack([image[:, top : top + rows, left : left + columns] for left in some])
                    found = self.network(unit(crops.to(device))).float().softmax(1) * weight
                    if not len(total):
                        total = found.new_zeros(found.shape[1], rows, last - first)
                        norm = found.new_zeros(rows, last - first)
                    for left, one in zip(some, found, strict=True):
                        into, out = cut(left, columns, first, last)
                        total[:, :, into] += one[:, :, out]
                        norm[:, into] += weight[:, out]
                    seen(len(some))
                done = following - top
                yield Part(top, first, total[:, :done] / norm[:done])
                total, norm = F.pad(total[:, done:], (0, 0, 0, done)), F.pad(norm[done:], (0, 0, 0, done))


def unit(image: Tensor) -> Tensor:
    """Bytes as floats in 0...1; floats as they are."""
    return image if image.is_floating_point() else image.float() / 255


def log(probabilities: Tensor) -> Tensor:
    """Logarithms that stay finite, so that they can be interpolated."""
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin that cover a length: the first at 0, the last ending at its end, evenly between."""
    if window >= length:
        return [0]
    stride = max(1, math.floor(window * (1 - overlap)))
    steps = math.ceil((length - window) / stride)
    return [round(step * (length - window) / steps) for step in range(steps + 1)]


def hill(length: int) -> Tensor:
    """Weights of a window's rows or columns: a squared sine, nowhere zero."""
    places = (torch.arange(length) + 0.5) / length
    return torch.sin(torch.pi * places) ** 2


def cut(left: int, columns: int, first: int, last: int) -> tuple[slice, slice]:
    """Which columns of a strip a window fills, and with which of its own."""
    begin, end = max(left, first), min(left + columns, last)
    return slice(begin - first, end - first), slice(begin - left, end - left)


def batches(values: Sequence[int], size: int) -> list[Sequence[int]]:
    """Consecutive values in lists of at most `size`."""
    return [values[place : place + size] for place in range(0, len(values), size)]
