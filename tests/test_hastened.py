"""Layers that take the kernels in C are otherwise what they were."""

import copy
import os
import pickle
import platform
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

from segmentation.models import hastened, layers
from segmentation.models.hastened import HASTENED, hasten
from segmentation.models.layers import normalised
from segmentation.models.native import library
from segmentation.models.network import build_network
from tests.in_bf16 import ROUNDING, built, close, maps, norm
from tests.settings import model


def trained(network: nn.Module, image: Tensor) -> list[Tensor]:
    """The result and all gradients of one pass under autocast, as a training makes it."""
    network.train().zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        result = network(image)
    (result.float() ** 2).mean().backward()
    return [result.detach(), *[parameter.grad for parameter in network.parameters() if parameter.grad is not None]]


@built
@pytest.mark.parametrize("name", ["resnet26", "seresnet50", "efficientnet_lite0"])
def test_networks_learn_as_without_the_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against float32 they err no more than torch's kernels in bf16 do; blocks with something else in them too."""
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

    assert errors(ours).median() <= 2 * errors(theirs).median()
    assert errors(ours)[0] <= 2 * errors(theirs)[0]


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_hastened_networks_are_what_they_were(name: str) -> None:
    """In names, in float32 to the bit, in evaluation too; and are copied and pickled."""
    import timm

    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=3)
    ours = copy.deepcopy(plain)
    hasten(ours)
    hasten(ours)  # once is enough
    found, expected = ([type(module) for module in network.modules()] for network in (ours, plain))
    assert set(HASTENED.values()) & set(found)
    assert not set(HASTENED) & set(found)
    assert all(issubclass(one, its) for one, its in zip(found, expected, strict=True))
    assert ours.state_dict().keys() == plain.state_dict().keys()
    image = torch.rand(2, 3, 64, 64)
    for network in (ours, copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert [type(module) for module in network.modules()] == [type(module) for module in ours.modules()]
        for training in (False, True):
            results = [copy.deepcopy(one).train(training)(image) for one in (network, plain)]
            assert torch.equal(*results)


def made_alike(*, channels: int, **keywords: Any) -> Callable[[], nn.Module]:
    return lambda: nn.BatchNorm2d(channels, **keywords)


@pytest.mark.parametrize("layer", [
    made_alike(channels=8, affine=False), made_alike(channels=8, track_running_stats=False),
    made_alike(channels=8, momentum=None), made_alike(channels=8, eps=1), made_alike(channels=8, momentum=1),
    made_alike(channels=64), made_alike(channels=4), lambda: nn.GroupNorm(2, 8, affine=False),
    lambda: nn.GroupNorm(2, 8, eps=1), lambda: nn.GroupNorm(2, 64), lambda: nn.BatchNorm2d(8).to(torch.bfloat16),
])  # fmt: skip
def test_what_torch_takes_or_refuses_is_taken_or_refused(layer: Callable[[], nn.Module]) -> None:
    """Odd settings, channels that do not fit and weights in bf16: whatever it does, not a crash."""

    def outcome(module: nn.Module) -> Any:
        try:
            return module(maps((2, 8, 6, 5)))
        except RuntimeError as error:
            return type(error)

    theirs, ours = nn.Sequential(layer()), nn.Sequential(layer())
    hasten(ours)
    expected, found = outcome(theirs), outcome(ours)
    if isinstance(expected, Tensor):
        close(found, expected, 2 * ROUNDING)
    else:
        assert found is expected


@pytest.mark.parametrize("shape", [(2, 8, 1, 1), (1, 8, 6, 5)])
def test_a_shortcut_of_another_shape_is_spread_as_torch_does(shape: tuple[int, ...]) -> None:
    shortcut = maps(shape)
    close(normalised(norm(8), maps((2, 8, 6, 5)), shortcut), (norm(8)(maps((2, 8, 6, 5))) + shortcut).relu())


def test_layers_can_be_traced() -> None:
    layer = nn.Sequential(norm(8), nn.ReLU())
    hasten(layer)
    traced: Any = torch.jit.trace(layer.eval(), maps((2, 8, 6, 5)))  # type: ignore[no-untyped-call]
    assert torch.equal(traced(maps((2, 8, 4, 4))), layer(maps((2, 8, 4, 4))))


def block(begins: str = "", instead: type[nn.Module] = nn.Identity) -> BasicBlock:
    """A residual block of 8 channels, with something else where names begin so."""
    found: Any = BasicBlock(8, 8)
    for name in [name for name, _ in found.named_children() if begins and name.startswith(begins)]:
        setattr(found, name, instead())
    generator = torch.Generator().manual_seed(1)
    for parameter in found.parameters():
        nn.init.normal_(parameter, 0.1, 0.3, generator)
    hasten(nn.ModuleList([found]))
    return found.to(memory_format=torch.channels_last)  # type: ignore[no-any-return]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("begins", "instead"),
    [("", nn.Identity), ("act", nn.Identity), ("bn", nn.Identity), ("act1", nn.GELU), ("aa", nn.Tanh)],
)
def test_a_block_does_what_timms_does(begins: str, instead: type[nn.Module], training: bool) -> None:
    """Also one with something else, or nothing, in the place of a part."""
    module = block(begins, instead).train(training)
    numbers = maps((2, 8, 6, 5)) - 3
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = module(numbers), BasicBlock.forward(copy.deepcopy(module), numbers)
    close(found, expected, 4 * ROUNDING)


@built
def test_hooks_inside_a_block_are_called() -> None:
    """The diagnosis of what is not finite hangs on them."""
    module = block().train()
    called: list[str] = []
    for name, child in module.named_children():
        child.register_forward_hook(lambda *_, name=name: called.append(name))
    with torch.autocast("cpu", torch.bfloat16):
        module(maps((2, 8, 6, 5)))
    assert {"bn1", "act1", "bn2", "act2"} <= set(called)


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


def test_without_a_compiler_torchs_kernels_run() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT], env=os.environ | {"CC": "false"}, check=True)


@pytest.mark.parametrize(("compiler", "said"), [
    ("/nowhere/cc", "/nowhere/cc"), ("'gcc", "quotation"), ("false", "status 1"),
    ("sh -c 'echo no >&2; exit 2'", "sh: no"),
])  # fmt: skip
def test_a_compiler_that_fails_is_no_mistake(
    compiler: str, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with caplog.at_level("INFO"):
        assert library.__wrapped__() is None
    assert said in caplog.text
