"""Maps in bf16, and what is asked of the results for them."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from segmentation.models.native import library

built = pytest.mark.skipif(library() is None, reason="the kernels are for x86-64 and need a C compiler")
ROUNDING = 2**-7  # of results in bf16: two roundings of half a step of 2**-7, of which torch's chain may have more
# Channels that fill a vector, and that do not; pixels of one block, and of several with a rest.
SHAPES = [(2, 64, 12, 20), (3, 19, 7, 5), (1, 3, 1, 5), (2, 1, 9, 9), (5, 256, 1, 1)]


def maps(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """In bf16 and channels-last, far from the mean 0."""
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + 3
    return numbers.bfloat16().to(memory_format=torch.channels_last)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def norm(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels)
    generator = torch.Generator().manual_seed(1)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 1, 0.5, generator)
    return layer


def close(found: Tensor | None, expected: Tensor | None, tolerance: float = ROUNDING) -> None:
    assert found is not None
    assert expected is not None
    error = (found.double() - expected.double()).abs().max()
    assert error <= tolerance * expected.double().abs().max(), float(error)
