"""The kernels in C compute what torch's do, and layers that take them are otherwise what they were."""

import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segmentation.models.hastened import HASTENED, HastenedReLU, hasten
from segmentation.models.layers import Fork, normalised
from segmentation.models.native import library, suits
from segmentation.models.network import build_network
from tests.settings import model

built = pytest.mark.skipif(library() is None, reason="the kernels are for x86-64 and need a C compiler")
ROUNDING = 2**-7  # of results in bf16: two roundings of half a step of 2**-7, of which torch's chain may have more
# Channels that fill a vector, and that do not; pixels of one block, and of several with a rest.
SHAPES = [(2, 64, 12, 20), (3, 19, 7, 5), (1, 3, 1, 5), (2, 1, 9, 9), (5, 256, 1, 1)]


def maps(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """In bf16 and channels-last, far from the mean 0."""
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + 3
    return numbers.bfloat16().to(memory_format=torch.channels_last)


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


@built
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_shortcut", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_is_that_of_float64(shape: tuple[int, ...], with_shortcut: bool, relu: bool) -> None:
    """Its result, all gradients, and the running statistics."""
    layer, gradient = norm(shape[1]), maps(shape, 2) - 3
    exact = copy.deepcopy(layer).double()
    inputs = [maps(shape), maps(shape, 3) - 6][: 1 + with_shortcut]
    exactly = [one.double().requires_grad_() for one in inputs]
    for one in inputs:
        one.requires_grad_()
    assert suits(inputs[0])
    result: Any = normalised(layer, *inputs, relu=relu)
    expected: Any = sum(exactly[1:], start=exact(exactly[0]))
    expected = expected.relu() if relu else expected
    assert type(result.grad_fn).__name__ == "BatchNormBackward"
    close(result, expected)
    # Where rounding made a positive number 0, or none, the gradients may differ; here it does not.
    result.backward(gradient)
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
    assert type(result.grad_fn).__name__ == "GroupNormBackward"
    close(result, expected)
    torch.autograd.backward([result, expected], [gradient, gradient.double()])
    for found, one in zip([numbers, *layer.parameters()], [exactly, *exact.parameters()], strict=True):
        close(found.grad, one.grad)


@built
def test_little_is_cancelled_where_the_mean_is_large() -> None:
    """A variance of 1 around 1,000, in float32's square of which it would be lost."""
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
def test_gradients_of_two_uses_are_summed() -> None:
    numbers: Any = maps((2, 19, 5, 7)).requires_grad_()
    one, two = Fork.apply(numbers)
    (one * 2 + two * 3).sum().backward()
    assert torch.equal(numbers.grad, torch.full_like(numbers, 5))
    numbers.grad = None
    Fork.apply(numbers)[1].sum().backward()  # the other is not used
    assert torch.equal(numbers.grad, torch.ones_like(numbers))


def trained(network: nn.Module, image: Tensor) -> list[Tensor]:
    """The result and all gradients of one pass under autocast, as a training makes it."""
    network.train().zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        result = network(image)
    (result.float() ** 2).mean().backward()
    return [result.detach(), *[parameter.grad for parameter in network.parameters() if parameter.grad is not None]]


@built
@pytest.mark.parametrize("name", ["resnet18", "resnet26", "resnext26ts", "seresnet50", "efficientnet_lite0"])
def test_networks_learn_as_without_the_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against float32 they err no more than torch's kernels in bf16 do; blocks with something else in them too."""
    from segmentation.models import hastened, layers

    torch.manual_seed(0)
    network = build_network(model(name), 5).to(memory_format=torch.channels_last)
    image = torch.rand(4, 3, 64, 64).to(memory_format=torch.channels_last)
    exact = copy.deepcopy(network).train().double()
    result = exact(image.double())
    (result**2).mean().backward()
    expected = [result.detach(), *[one.grad for one in exact.parameters() if one.grad is not None]]
    ours = trained(copy.deepcopy(network), image)
    for module in (hastened, layers):
        monkeypatch.setattr(module, "suits", lambda maps: False)
    theirs = trained(copy.deepcopy(network), image)
    assert any(not torch.equal(one, two) for one, two in zip(ours, theirs, strict=True))

    def errors(found: list[Tensor]) -> Tensor:
        pairs = zip(found, expected, strict=True)
        return torch.stack(
            [torch.linalg.norm(one - two) / torch.linalg.norm(two).clamp(min=1e-9) for one, two in pairs]
        )

    assert errors(ours).median() <= 1.2 * errors(theirs).median()
    assert errors(ours)[0] <= 1.5 * errors(theirs)[0]


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_hastened_networks_are_what_they_were(name: str) -> None:
    """In names, in float32 to the bit, in evaluation too; and are copied and pickled."""
    import timm

    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=3)
    hastened = copy.deepcopy(plain)
    hasten(hastened)
    hasten(hastened)  # once is enough
    found, expected = ([type(module) for module in network.modules()] for network in (hastened, plain))
    assert set(HASTENED.values()) & set(found)
    assert not set(HASTENED) & set(found)
    assert all(issubclass(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    assert hastened.state_dict().keys() == plain.state_dict().keys()
    image = torch.rand(2, 3, 64, 64)
    for network in (hastened, copy.deepcopy(hastened), pickle.loads(pickle.dumps(hastened))):
        assert [type(module) for module in network.modules()] == [type(module) for module in hastened.modules()]
        for training in (False, True):
            results = [copy.deepcopy(one).train(training)(image) for one in (network, plain)]
            assert torch.equal(*results)


def test_frozen_norms_stay_frozen() -> None:
    layer = nn.Sequential(norm(8))
    hasten(layer)
    numbers, before = maps((2, 8, 4, 4)), copy.deepcopy(layer.state_dict())
    layer.eval()(numbers)
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


WITHOUT = """
import torch
from segmentation.models.hastened import hasten
from segmentation.models.native import library
assert library() is None
layer = torch.nn.Sequential(torch.nn.BatchNorm2d(8), torch.nn.ReLU())
hasten(layer)
layer(torch.randn(2, 8, 4, 4).bfloat16().to(memory_format=torch.channels_last)).sum().backward()
"""


@pytest.mark.parametrize("compiler", ["false", "/nowhere/cc"])
def test_without_a_compiler_torchs_kernels_run(compiler: str) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT], env={"CC": compiler}, check=True)
