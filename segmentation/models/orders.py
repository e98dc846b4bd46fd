"""Scan orders: the ways in which a feature map becomes sequences.

Every public function here is an order that `lstm.order` can name:
`(height, width, **keywords) -> LongTensor[num_sequences, length]`. Each row lists flat positions (row * width + column)
in visiting order; together the rows visit every position once. Where rows differ in length, -1 fills their ends.
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["columns", "hilbert", "raster", "rows", "shuffle", "snake", "spiral", "windows", "zigzag"]


def raster(height: int, width: int) -> Tensor:
    """Row by row, each from left to right: [1, H*W]. Neighbours in a row are one step apart."""
    return _grid(height, width).reshape(1, -1)


def snake(height: int, width: int) -> Tensor:
    """Row by row, from left to right and back (boustrophedon): [1, H*W]. Successive positions always touch."""
    grid = _grid(height, width)
    grid[1::2] = grid[1::2].flip(1)
    return grid.reshape(1, -1)


def zigzag(height: int, width: int) -> Tensor:
    """Along the anti-diagonals, up and down in turn, as JPEG orders its coefficients: [1, H*W].

    The first step goes right, the second down to the left. Successive positions touch, at least by a corner.
    """
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    diagonal = row + column
    upwards = torch.where(diagonal % 2 == 1, row, -row)
    return (diagonal * (2 * height) + upwards).flatten().argsort().reshape(1, -1)


def spiral(height: int, width: int) -> Tensor:
    """Clockwise from the upper left corner inwards: [1, H*W]. Successive positions always touch."""
    grid, turns = _grid(height, width), []
    while grid.numel():
        turns.append(grid[0])
        grid = grid[1:].rot90()  # the next side of the rest becomes its first row
    return torch.cat(turns).reshape(1, -1)


def hilbert(height: int, width: int) -> Tensor:
    """A Hilbert curve stretched over any rectangle: [1, H*W]. What is near in the scan is near in the plane.

    Successive positions touch by a side, but for a single corner where an odd length meets an even one. The recursion
    is the one of J. Červený, "gilbert: space-filling curve for rectangular domains of arbitrary size" (2018).
    """
    along, across = (width * 1j, height) if width >= height else (height, width * 1j)
    path = list(_hilbert(0, complex(along), complex(across)))
    return torch.tensor([[int(point.real) * width + int(point.imag) for point in path]])


def rows(height: int, width: int) -> Tensor:
    """All rows side by side, each from left to right: [H, W]. With `columns` this is ReNet (Visin et al., 2015)."""
    return _grid(height, width)


def columns(height: int, width: int) -> Tensor:
    """All columns side by side, each from top to bottom: [W, H]."""
    return _grid(height, width).T.contiguous()


def windows(height: int, width: int, *, size: int = 8) -> Tensor:
    """Windows of `size` x `size` side by side, each row by row: [n, size*size]; those at the border are smaller."""
    grid = _grid(height, width)
    tiles = [
        grid[top : top + size, left : left + size].flatten()
        for top in range(0, height, size)
        for left in range(0, width, size)
    ]
    return torch.nn.utils.rnn.pad_sequence(tiles, batch_first=True, padding_value=-1)


def shuffle(height: int, width: int, *, seed: int = 0) -> Tensor:
    """A fixed random permutation: [1, H*W]. The control that keeps the LSTM and takes away the neighbourhood."""
    return torch.randperm(height * width, generator=torch.Generator().manual_seed(seed)).reshape(1, -1)


def _grid(height: int, width: int) -> Tensor:
    return torch.arange(height * width).reshape(height, width)


def _hilbert(start: complex, along: complex, across: complex) -> Iterator[complex]:
    """The positions (row + column*1j) of the rectangle at `start` that both vectors span, entered at `start` and left
    at the far end of `along`. A long rectangle is cut in two; another in three, the outer two turned by 90°.
    """
    length, breadth = int(abs(along)), int(abs(across))
    step, side = along / length, across / breadth
    if breadth == 1:
        yield from (start + step * index for index in range(length))
        return
    if length == 1:
        yield from (start + side * index for index in range(breadth))
        return
    if 2 * length > 3 * breadth:
        half = step * _even_half(length)
        parts = [(start, half, across), (start + half, along - half, across)]
    else:
        half, rise = step * (length // 2), side * _even_half(breadth)
        parts = [
            (start, rise, half),
            (start + rise, along, across - rise),
            (start + along - step + rise - side, -rise, half - along),
        ]
    yield from itertools.chain.from_iterable(_hilbert(*part) for part in parts)


def _even_half(length: int) -> int:
    """About half, and even where possible: an even part ends on the side that the next one starts from."""
    half = length // 2
    return half + 1 if half % 2 and length > 2 else half
