"""The contract of whatever takes the LSTM's place, and what each control may and may not see."""

from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from segmentation.config import CONF, LSTMConfig
from segmentation.models import orders
from segmentation.models.controls import Attention, Convolution, Frozen, heads_of, lstm_parameters
from segmentation.models.slot import count_parameters

CONTROLS = ("mlp", "conv", "attention", "shuffle", "frozen")
MATCHED = ("mlp", "conv", "attention")


def build(name: str, channels: int = 24, map_stride: int = 16, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    config: Any = OmegaConf.merge(
        OmegaConf.structured(LSTMConfig), OmegaConf.load(CONF / "lstm" / f"{name}.yaml"), changes
    )
    plain: Any = OmegaConf.to_container(config)
    module: nn.Module = instantiate(plain, channels=channels, map_stride=map_stride, _convert_="all")
    return module


def influence(module: nn.Module, row: int, column: int, size: int = 7) -> Tensor:
    """Whether each position [H, W] of the input moves the output at (row, column)."""
    features = torch.randn(1, 24, size, size, generator=torch.Generator().manual_seed(1)).requires_grad_()
    module(features)[0, :, row, column].sum().backward()
    assert features.grad is not None
    return features.grad[0].abs().sum(0) > 0


SETTINGS: list[dict[str, Any]] = [
    {},
    {"cell": "gru"},
    {"num_layers": 2},
    {"order": ["rows", "columns"]},
    {"hidden_size": 64},
    {"bidirectional": False},
    {"order": ["rows", "columns"], "combine": "sum", "num_layers": 2},
]
HIDDEN: list[tuple[dict[str, Any], int]] = [
    ({"order": ["rows", "columns"]}, 2),
    ({"num_layers": 3}, 3),
    ({"order": ["rows", "columns"], "residual": False}, 2),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("channels", [24, 40, 64, 128, 320, 512, 2048])
@pytest.mark.parametrize("name", MATCHED)
def test_as_many_parameters_as_the_lstm(name: str, channels: int, settings: dict[str, Any]) -> None:
    with torch.device("meta"):
        ratio = count_parameters(build(name, channels, **settings)) / count_parameters(
            build("zigzag", channels, **settings)
        )
    assert 0.95 < ratio < 1.05


def test_the_count_is_the_lstms_own() -> None:
    settings: Any = OmegaConf.to_container(OmegaConf.structured(LSTMConfig))
    del settings["_target_"]
    assert lstm_parameters(24, 16, **settings) == count_parameters(build("zigzag"))


@pytest.mark.parametrize("changes", [{}, {"residual": False}, {"stride": 32}], ids=str)
@pytest.mark.parametrize("shape", [(5, 7), (1, 6), (6, 1)], ids=str)
@pytest.mark.parametrize("name", CONTROLS)
def test_same_shape_and_gradient_to_every_parameter_that_learns(
    name: str, shape: tuple[int, int], changes: dict[str, Any]
) -> None:
    module = build(name, **changes)
    features = torch.randn(2, 24, *shape)
    output = module(features)
    assert output.shape == features.shape
    output.square().sum().backward()
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    assert learning
    for parameter in learning:
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("changes", [{"residual": False}, {"stride": 32}, {"hidden_size": 64}], ids=str)
@pytest.mark.parametrize("name", CONTROLS)
def test_the_settings_they_share_with_the_lstm_change_them(name: str, changes: dict[str, Any]) -> None:
    features = torch.randn(1, 24, 6, 6)
    assert not torch.equal(build(name)(features), build(name, **changes)(features))


def test_what_each_control_sees() -> None:
    assert influence(build("mlp"), 3, 3).nonzero().tolist() == [[3, 3]]
    seen = influence(build("conv"), 3, 3).nonzero().tolist()
    assert seen == [[row, column] for row in (2, 3, 4) for column in (2, 3, 4)]
    for name in ("attention", "shuffle", "frozen"):
        assert influence(build(name), 3, 3).all()


@pytest.mark.parametrize(("changes", "hidden"), HIDDEN, ids=str)
def test_as_many_hidden_layers_as_the_lstm_has(changes: dict[str, Any], hidden: int) -> None:
    for name in ("mlp", "conv"):
        module = build(name, **changes)
        convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        assert len(convolutions) == hidden + 1
        assert len({layer.out_channels for layer in convolutions[:-1]}) == 1
    assert influence(build("conv", **changes), 3, 3).sum() == (2 * hidden + 1) ** 2
    assert influence(build("mlp", **changes), 3, 3).nonzero().tolist() == [[3, 3]]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("channels", [8, 24, 128])
@pytest.mark.parametrize("name", MATCHED)
def test_none_is_far_wider_than_the_lstm(name: str, channels: int, settings: dict[str, Any]) -> None:
    """All the parameters of two scans in one layer behind a narrow map are a width of thousands: no fair rival."""
    module = build(name, channels, **settings)
    lstm = settings.get("hidden_size", 128) * (2 if settings.get("bidirectional", True) else 1)
    assert max(parameter.shape[0] for parameter in module.parameters()) <= (3 if name == "attention" else 1) * 4 * lstm


def test_attention_knows_where_a_position_is() -> None:
    module = build("attention", residual=False)
    same = torch.ones(1, 24, 4, 5)
    output = module(same)[0].flatten(1)
    assert len(torch.unique(output, dim=1).T) == 20


def test_frozen_is_the_lstm_with_only_its_projection_learning() -> None:
    frozen, lstm = build("frozen"), build("zigzag")
    features = torch.randn(1, 24, 4, 5)
    assert torch.equal(frozen(features), lstm(features))
    learning = {name.partition(".")[0] for name, parameter in frozen.named_parameters() if parameter.requires_grad}
    assert learning == {"projection"}
    assert isinstance(frozen, Frozen)


@pytest.mark.parametrize("order", ["zigzag", "rows", ["rows", "columns"], "windows"], ids=str)
def test_shuffle_is_the_lstm_over_a_shuffled_map(order: Any) -> None:
    control, lstm = (build(name, order=order, order_args={}) for name in ("shuffle", "zigzag"))
    features = torch.randn(2, 24, 4, 11)
    renamed = orders.shuffle(4, 11)[0]
    shuffled = features.flatten(2)[..., renamed].view_as(features)
    assert torch.allclose(control(features).flatten(2)[..., renamed], lstm(shuffled).flatten(2), atol=1e-6)
    assert not torch.allclose(control(features), lstm(features))
    assert count_parameters(control) == count_parameters(lstm)


def test_shuffled_rows_are_no_rows() -> None:
    seen = influence(build("shuffle", order="rows"), 3, 3).nonzero()
    assert len(seen) == 7
    assert len(set(seen[:, 0].tolist())) > 1


def test_heads_divide_the_width_into_parts_near_32() -> None:
    assert [heads_of(width) for width in (32, 64, 96, 136, 7)] == [1, 2, 3, 4, 1]
    module = build("attention", 320)
    assert isinstance(module, Attention)
    assert module.projection.in_features % module.heads == 0
    assert isinstance(build("conv"), Convolution)
