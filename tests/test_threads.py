"""A scan of few sequences in one thread gives the same results, and leaves the threads as they were."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from segmentation.models import threads
from segmentation.models.lstm import LSTM
from tests.in_bf16 import close, torch_threads


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    with torch_threads(3):
        yield


def watched(monkeypatch: pytest.MonkeyPatch, amx: bool) -> Mock:
    """Calls that change the number of threads, on a machine with or without AMX."""
    mock = Mock(side_effect=torch.set_num_threads)
    monkeypatch.setattr(threads, "has_amx", lambda: amx)
    monkeypatch.setattr(torch, "set_num_threads", mock)
    return mock


def trained(layer: LSTM, sequences: Tensor) -> list[Any]:
    """Results and gradients, under autocast, of two passes backward through one forward."""
    layer.zero_grad()
    inputs = sequences.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        result = layer(inputs)[0]
    for _ in range(2):
        result.float().square().sum().backward(retain_graph=True)
        assert torch.get_num_threads() == 3
    return [result.detach(), inputs.grad, *[parameter.grad for parameter in layer.parameters()]]


@pytest.mark.parametrize("layers", [1, 2])
def test_one_thread_gives_the_same(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to rounding; each layer and direction is computed in one thread, backward too."""
    torch.manual_seed(0)
    layer = LSTM(16, 16, layers, batch_first=True, bidirectional=True)
    sequences = torch.randn(4, 30, 16)
    with monkeypatch.context() as patch:
        mock = watched(patch, amx=False)
        expected = trained(layer, sequences)
        assert not mock.called
    there = threads.has_amx()
    mock = watched(monkeypatch, amx=True)
    found = trained(layer, sequences)
    changes = [call.args[0] for call in mock.call_args_list]
    kernels = 2 * layers if there else 0  # torch has others for older CPUs, which are left alone backward
    assert changes == [1, 3] * (1 + 2 * kernels)
    for one, other in zip(found, expected, strict=True):
        close(one, other)


@pytest.mark.parametrize(
    ("count", "precision", "amx", "alone"),
    [
        (threads.FEW, torch.bfloat16, True, True),
        (threads.FEW + 1, torch.bfloat16, True, False),
        (1, torch.float32, True, False),
        (1, torch.bfloat16, False, False),
    ],
)
def test_one_thread_where_it_is_faster(
    count: int, precision: torch.dtype, amx: bool, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "has_amx", lambda: amx)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        assert threads.better_alone(torch.zeros(count, 3, 8)) == alone


def test_a_failing_scan_leaves_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "has_amx", lambda: True)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError):
        LSTM(8, 8, batch_first=True)(torch.zeros(2, 3, 9))
    assert torch.get_num_threads() == 3
