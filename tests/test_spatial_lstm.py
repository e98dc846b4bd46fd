"""SpatialLSTM against torch's own cells run by hand, and each of its options against the same module without it."""

from typing import Any

import pytest
import torch
from torch import nn

from segmentation.errors import UserError
from segmentation.models import orders
from segmentation.models.controls import identity
from segmentation.models.scans import Scan
from segmentation.models.slot import pooling_factor
from segmentation.models.spatial_lstm import SpatialLSTM
from tests.settings import LSTM

SHAPES = [(3, 4), (1, 6), (5, 1), (1, 1), (7, 5)]


def build(channels: int = 6, map_stride: int = 16, **changes: Any) -> SpatialLSTM:
    torch.manual_seed(0)
    return SpatialLSTM(channels, map_stride, **LSTM | changes)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", sorted(orders.__all__))
def test_equals_each_sequence_scanned_alone(name: str, shape: tuple[int, int]) -> None:
    """Fill is never read: in both directions the outputs are those of every row of the order by itself."""
    arguments = {"size": 2} if name == "windows" else {}
    order = getattr(orders, name)
    scan = Scan(3, order, arguments, cell="lstm", hidden_size=4, num_layers=2, bidirectional=True, chunk=None)
    features = torch.randn(2, 3, *shape)
    expected = torch.empty(2, shape[0] * shape[1], 8)
    for sequence in order(*shape, **arguments):
        places = sequence[sequence >= 0]
        expected[:, places] = scan.cell(features.flatten(2)[:, :, places].transpose(1, 2))[0]
    torch.testing.assert_close(scan(features).flatten(2).transpose(1, 2), expected)


@pytest.mark.parametrize("changes", [{}, {"cell": "gru"}, {"order": ["rows", "columns"]}, {"bidirectional": False},
                                     {"order": ["rows", "columns"], "combine": "sum"}, {"order": "windows"},
                                     {"residual": False}, {"num_layers": 2}, {"cell": "minlstm"},
                                     {"cell": "mingru"}, {"chunk": 7}])  # fmt: skip
def test_same_shape_and_gradient_to_every_parameter(changes: dict[str, Any]) -> None:
    module = build(**changes)
    features = torch.randn(2, 6, 5, 9, requires_grad=True)
    result = module(features)
    assert result.shape == features.shape
    result.square().sum().backward()
    for name, parameter in [("input", features), *module.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    "changes",
    [{"order": "snake"}, {"order": ["zigzag", "zigzag"]}, {"cell": "gru"}, {"hidden_size": 7}, {"num_layers": 2},
     {"cell": "minlstm"}, {"cell": "mingru"}, {"bidirectional": False}, {"residual": False}, {"stride": 32}],
)  # fmt: skip
def test_every_option_changes_the_output(changes: dict[str, Any]) -> None:
    features = torch.randn(1, 6, 4, 6)
    assert not torch.allclose(build()(features), build(**changes)(features))


def test_combine_and_order_args_change_the_output() -> None:
    features = torch.randn(1, 6, 6, 6)
    twice: dict[str, Any] = {
        "order": ["rows", "columns"],
        "hidden_size": 3,
    }  # 2 x 3 channels: both ways fit the same weights
    stacked, summed = build(**twice), build(**twice, combine="sum")
    summed.load_state_dict(stacked.state_dict())
    assert not torch.allclose(stacked(features), summed(features))
    small, large = (build(order="windows", order_args={"size": size}) for size in (2, 3))
    assert not torch.allclose(small(features), large(features))


def test_stacked_orders_apply_in_turn() -> None:
    module = build(order=["rows", "columns"], residual=False)
    features = torch.randn(1, 6, 3, 4)
    torch.testing.assert_close(module(features), module.projection(module.scans[1](module.scans[0](features))))


def test_one_way_sees_the_past_only_and_both_ways_see_all() -> None:
    for bidirectional, reached in ((False, 5), (True, 12)):
        module = build(order="raster", bidirectional=bidirectional, residual=False)
        features = torch.randn(1, 6, 3, 4, requires_grad=True)
        module(features)[0, :, 1, 0].sum().backward()  # the fifth position of a raster over 3 x 4
        assert features.grad is not None
        assert int((features.grad[0].abs().sum(0) > 0).sum()) == reached


def test_stride_pools_before_the_scan_and_the_residual_stays_sharp() -> None:
    module = build(map_stride=4, stride=16, residual=True)
    seen: list[torch.Size] = []
    module.scans[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[-2:]))
    features = torch.randn(1, 6, 9, 16)
    difference = module(features) - features
    assert seen == [(3, 4)]
    nn.init.zeros_(module.projection.weight)
    nn.init.zeros_(module.projection.bias)  # type: ignore[arg-type]
    assert difference.abs().sum() > 0
    assert torch.equal(module(features), features)


@pytest.mark.parametrize(
    ("stride", "map_stride", "factor"),
    [("auto", 4, 4), ("auto", 16, 1), ("auto", 32, 1), (None, 4, 1), (32, 8, 4), (8, 8, 1)],
)
def test_pooling_factor(stride: int | str | None, map_stride: int, factor: int) -> None:
    assert pooling_factor(stride, map_stride) == factor


@pytest.mark.parametrize("stride", [8, 24, 0, "automatic"])
def test_a_stride_that_does_not_fit_is_named(stride: int | str) -> None:
    with pytest.raises(UserError, match=f"lstm.stride={stride}"):
        pooling_factor(stride, 16)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cell": "lstmm"}, "'lstm'"),
        ({"cell": "torch.nn.Linear"}, "refuses"),
        ({"chunk": 0}, "chunk=0"),
        ({"combine": "add"}, "sum"),
        ({"order": []}, "empty"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(**changes)


def test_the_order_is_laid_out_once_for_each_size() -> None:
    calls = []

    def counted(height: int, width: int) -> torch.Tensor:
        calls.append((height, width))
        return orders.raster(height, width)

    scan = Scan(2, counted, {}, cell="gru", hidden_size=2, num_layers=1, bidirectional=False, chunk=None)
    for shape in ((3, 4), (3, 4), (4, 3), (3, 4)):
        scan(torch.randn(1, 2, *shape))
    assert calls == [(3, 4), (4, 3)]
    assert not any("plan" in key for key in scan.state_dict())


def test_a_size_first_met_in_validation_can_be_trained_on() -> None:
    module = build()
    features = torch.randn(1, 6, 3, 4)
    with torch.inference_mode():
        module(features)
    module(features.requires_grad_()).sum().backward()


def test_gradients_are_right() -> None:
    module = build(channels=2, hidden_size=2, order=["zigzag", "windows"], order_args={"size": 2}).double()
    assert torch.autograd.gradcheck(module, torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True))


def test_none_is_the_identity() -> None:
    features = torch.randn(1, 6, 3, 4)
    assert torch.equal(identity(6, 16, **LSTM)(features), features)


def test_an_order_of_ones_own_by_its_dotted_path() -> None:
    module = build(order=f"{__name__}.backwards")
    assert module(torch.randn(1, 6, 3, 4)).shape == (1, 6, 3, 4)


def backwards(height: int, width: int) -> torch.Tensor:
    return orders.raster(height, width).flip(1)
