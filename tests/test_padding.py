"""Padding that is settled for a graph is the padding that it replaces."""

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from segmentation.errors import UserError
from segmentation.export import export
from segmentation.models.export import padding
from segmentation.models.export.padding import settle_padding, settled
from segmentation.models.export.tracing import EXAMPLE
from tests.settings import saved

NONE: dict[str, Any] = {"lstm___target_": "segmentation.models.controls.identity"}


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, (3, 5)])
@pytest.mark.parametrize("stride", [1, 2, 4, (2, 1)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_where_strides_divide_the_padding_is_the_same(kernel: Any, stride: Any, dilation: int) -> None:
    convolution = Conv2dSame(4, 6, kernel, stride, dilation=dilation, groups=2, bias=kernel == 3)
    for shape in ((1, 4, 8, 12), (2, 4, 20, 16)):
        features = torch.rand(*shape)
        assert torch.equal(convolution(features), settled(convolution)(features))


def test_a_network_stays_the_network(tmp_path: Path) -> None:
    network = saved(tmp_path, backbone__name="tf_efficientnet_lite0", **NONE).eval()
    images = [torch.rand(1, 3, *size) for size in (EXAMPLE, (64, 96), (33, 130))]
    with torch.inference_mode():
        before = [network(image) for image in images]
    settle_padding(network, images[0])
    assert not [part for part in network.modules() if isinstance(part, Conv2dSame)]
    with torch.inference_mode():
        assert all(torch.equal(network(image), one) for image, one in zip(images, before, strict=True))


def test_a_stride_that_does_not_divide_keeps_its_formula() -> None:
    network = nn.Sequential(Conv2dSame(3, 3, 3, 2), Conv2dSame(3, 3, 3, 2))
    settle_padding(network, torch.rand(1, 3, 6, 8))
    assert [isinstance(part, Conv2dSame) for part in network] == [False, True]


def test_a_file_is_compared_with_the_network_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, backbone__name="tf_efficientnet_lite0", **NONE)
    right = padding.settled

    def wrong(convolution: nn.Conv2d) -> nn.Sequential:
        pad: Any
        pad, plain = right(convolution)
        first, last, top, bottom = pad.padding
        return nn.Sequential(nn.ZeroPad2d((last, first, bottom, top)), plain)

    monkeypatch.setattr(padding, "settled", wrong)
    with pytest.raises(UserError, match="differ"):
        export(str(tmp_path), tmp_path / "any.pt2", form="torch")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "tf_efficientnetv2_s"])
def test_deep_networks_of_such_convolutions_are_traced_for_all_sizes(backbone: str, tmp_path: Path) -> None:
    saved(tmp_path, backbone__name=backbone, **NONE)
    fixed, found = export(str(tmp_path), tmp_path / "any.onnx", form="onnx")
    assert fixed is None
    assert len(found) == 6
