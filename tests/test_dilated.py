"""Convolutions with dilation learn the right weights in mixed precision too."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from segmentation.models.dilated import InFloat32, mend_dilated
from segmentation.models.network import build_network
from tests.settings import model

CLOSE = 0.02  # a gradient in bf16 is 0.003 from that in float32, the wrong one 0.6 and more


def gradient(convolution: nn.Conv2d, image: Tensor, bf16: bool) -> Tensor:
    """Of the weights, for the same changes of the output."""
    convolution.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = convolution(image)
    output.float().backward(torch.rand(output.shape, generator=torch.Generator().manual_seed(0)))
    assert convolution.weight.grad is not None
    return convolution.weight.grad.clone()


@pytest.mark.parametrize("dilation", [1, 2, 12])
@pytest.mark.parametrize(("inputs", "groups"), [(24, 1), (32, 1), (32, 32), (128, 32), (20, 1)])
def test_gradients_in_bf16_are_those_of_float32(inputs: int, groups: int, dilation: int) -> None:
    """On a map 60 wide; `mend_dilated` picks out those that torch gets wrong, and leaves the others.

    Without it those with dilation fail where not 32 channels are a group: all on CPUs with AVX-512, with AMX the
    depthwise alone, and on others none.
    """
    torch.manual_seed(0)
    convolution = nn.Conv2d(inputs, 64, 3, padding=dilation, dilation=dilation, groups=groups)
    convolution.to(memory_format=torch.channels_last)
    image = torch.randn(2, inputs, 20, 60).to(memory_format=torch.channels_last)
    expected = gradient(copy.deepcopy(convolution), image, bf16=False)
    mend_dilated(convolution)
    found = gradient(convolution, image, bf16=True)
    assert torch.linalg.norm(found - expected) <= CLOSE * torch.linalg.norm(expected)


def test_a_mended_convolution_is_what_it_was_but_where_it_learns_under_autocast() -> None:
    plain = nn.Conv2d(24, 8, 3, padding=2, dilation=2)
    mended = copy.deepcopy(plain)
    mend_dilated(mended)
    image = torch.randn(1, 24, 8, 8)
    assert isinstance(mended, InFloat32)
    assert mended.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(mended(image), plain(image), rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert mended.eval()(image).dtype == torch.float32
        with torch.no_grad():
            assert mended(image).dtype == torch.bfloat16
        assert mended.requires_grad_(False)(image).dtype == torch.bfloat16


def test_mended_convolutions_are_pickled_copied_and_mended_once() -> None:
    mended = nn.Sequential(nn.Conv2d(24, 8, 3, padding=2, dilation=2))
    for _ in range(2):
        mend_dilated(mended)
    image = torch.randn(1, 24, 8, 8)
    for again in (pickle.loads(pickle.dumps(mended)), copy.deepcopy(mended)):
        assert type(again[0]) is type(mended[0])
        assert again[0].weight is not mended[0].weight
        torch.testing.assert_close(again(image), mended(image), rtol=0, atol=0)


def test_networks_are_mended() -> None:
    """EfficientNet's depthwise convolutions where dilation keeps the stride; none where none is."""
    dilated = build_network(model("efficientnet_lite0", backbone__output_stride=16), 5)
    assert any(isinstance(module, InFloat32) for module in dilated.modules())
    usual = build_network(model("efficientnet_lite0"), 5)
    assert not any(isinstance(module, InFloat32) for module in usual.modules())
