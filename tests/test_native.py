"""The kernels in C compute what torch's do."""

import copy
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

from segmentation.models import layers
from segmentation.models.hastened import HastenedReLU, hasten
from segmentation.models.layers import ForkFunction, normalised
from segmentation.models.native import run, suits
from tests.in_bf16 import SHAPES, built, close, maps, norm, torch_threads


@built
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("then", ["nothing", "relu", "sum"])
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_is_that_of_float64(shape: tuple[int, ...], then: str, threads: int) -> None:
    """Its result, all gradients, and the running statistics."""
    layer, gradient = norm(shape[1]), maps(shape, 2) - 3
    exact = copy.deepcopy(layer).double()
    inputs = [maps(shape), maps(shape, 3) - 6][: 1 + (then == "sum")]
    exactly = [one.double().requires_grad_() for one in inputs]
    for one in inputs:
        one.requires_grad_()
    assert suits(inputs[0])
    with torch_threads(threads):
        result: Any = normalised(layer, *inputs, relu=then == "relu")
        torch.autograd.backward(result, gradient)
    expected: Any = sum(exactly[1:], start=exact(exactly[0]))
    expected = expected if then == "nothing" else expected.relu()
    assert type(result.grad_fn).__name__ == "BatchNormFunctionBackward"
    close(result, expected)
    expected.backward(gradient.double())
    for found, one in zip([*inputs, *layer.parameters()], [*exactly, *exact.parameters()], strict=True):
        close(found.grad, one.grad)
    close(layer.running_mean, exact.running_mean, 1e-5)
    close(layer.running_var, exact.running_var, 1e-5)
    assert layer.num_batches_tracked == 1


@built
@pytest.mark.parametrize("groups", [1, 4, 32])
@pytest.mark.parametrize("sides", [(12, 20), (7, 5), (1, 3)])
def test_group_norm_is_that_of_float64(sides: tuple[int, int], groups: int) -> None:
    numbers: Any = maps((3, 64, *sides)).requires_grad_()
    gradient = maps((3, 64, *sides), 2) - 3
    layer = nn.Sequential(nn.GroupNorm(groups, 64))
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 1, 0.5, torch.Generator().manual_seed(1))
    exact, exactly = copy.deepcopy(layer).double(), numbers.detach().double().requires_grad_()
    hasten(layer)
    result, expected = layer(numbers), exact(exactly)
    assert type(result.grad_fn).__name__ == "GroupNormFunctionBackward"
    close(result, expected)
    torch.autograd.backward([result, expected], [gradient, gradient.double()])
    for found, one in zip([numbers, *layer.parameters()], [exactly, *exact.parameters()], strict=True):
        close(found.grad, one.grad)


@built
def test_little_is_cancelled_where_the_mean_is_large() -> None:
    """A deviation of 4 around 1,000, in the sum of whose squares float32 would lose it."""
    torch.manual_seed(0)
    numbers = (torch.randn(4, 16, 32, 32) * 4 + 1000).bfloat16().to(memory_format=torch.channels_last)
    layer = norm(16)
    exact = copy.deepcopy(layer).double()
    close(normalised(layer, numbers), exact(numbers.double()))
    close(layer.running_var, exact.running_var, 1e-4)


@built
def test_equal_inputs_give_equal_results() -> None:
    def gradients() -> list[Tensor]:
        layer, inputs = norm(64), maps((4, 64, 40, 40)).requires_grad_()
        torch.autograd.backward(normalised(layer, inputs, relu=True), maps((4, 64, 40, 40), 2))
        return [one.grad for one in (inputs, *layer.parameters()) if one.grad is not None]

    assert all(map(torch.equal, gradients(), gradients()))


@built
@pytest.mark.parametrize("inplace", [False, True])
def test_relu_is_torchs_to_the_bit(inplace: bool) -> None:
    special = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), -1e-40, 1e-40])
    numbers = maps((2, 19, 5, 7)) - 3
    numbers.permute(0, 2, 3, 1).reshape(-1)[: len(special)] = special
    layer: Any = nn.Sequential(nn.Identity(), nn.ReLU(inplace))
    hasten(layer)
    assert isinstance(layer[1], HastenedReLU)
    ours, theirs = numbers.clone().requires_grad_(), numbers.clone().requires_grad_()
    gradient = maps(tuple(numbers.shape), 2)
    inside = ours * 1
    result, expected = layer(inside), (theirs * 1).relu()
    torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)
    assert (result.data_ptr() == inside.data_ptr()) == inplace
    torch.autograd.backward([result, expected], [gradient, gradient])
    number = ~numbers.isnan()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad[number], theirs.grad[number])


@built
def test_relu_needs_no_gradient() -> None:
    numbers = maps((2, 19, 5, 7)) - 3
    expected = numbers.relu()
    with torch.inference_mode():
        assert torch.equal(HastenedReLU()(numbers), expected)
        assert torch.equal(HastenedReLU(inplace=True)(numbers), expected)
    assert torch.equal(numbers, expected)


def test_what_is_not_a_number_stays_none() -> None:
    """Whatever its sign: on x86 0 / 0 is a negative one, and a training that breaks must not go on as if it were 0."""
    for numbers in (maps((1, 8, 4, 4)), maps((1, 8, 4, 4)).contiguous()):
        numbers[0, 3, 2, 1] = torch.tensor(-(2**22), dtype=torch.int32).view(torch.float32)
        layer = nn.Sequential(norm(8), nn.ReLU())
        hasten(layer)
        assert layer(numbers).isnan().sum() == 16
        assert layer[1](numbers).isnan().sum() == 1


@built
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_two_uses_are_summed(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, as torch sums them."""
    numbers: Any = maps(shape).requires_grad_()
    gradients = [maps(shape, 2), maps(shape, 3)]
    watched = Mock(side_effect=run)
    monkeypatch.setattr(layers, "run", watched)
    torch.autograd.backward(ForkFunction.apply(numbers), gradients)
    assert [call.args[0] for call in watched.call_args_list] == ["sum"]
    assert torch.equal(numbers.grad, gradients[0] + gradients[1])
    numbers.grad = None
    ForkFunction.apply(numbers)[1].sum().backward()  # the other is not used
    assert torch.equal(numbers.grad, torch.ones_like(numbers))
