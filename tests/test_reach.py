"""Receptive fields against networks whose reach is known, and what a test leaves of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from segmentation.analysis.reach import falloff, influence, plane_distances, radius, scan_distances, shrink
from segmentation.analysis.scan_drawings import draw_scan, way_of
from segmentation.models import orders
from segmentation.models.scans import bind_arguments
from segmentation.models.spatial_lstm import SpatialLSTM
from segmentation.train import train
from tests.conftest import Compose

SETTINGS: dict[str, Any] = {
    "order_args": {}, "combine": "stack", "cell": "lstm", "hidden_size": 8, "num_layers": 1, "bidirectional": True,
    "residual": False,
}  # fmt: skip


class Net(nn.Module):
    """A 3x3 convolution, a slot, and classes."""

    def __init__(self, slot: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), slot, nn.Conv2d(4, 5, 1))
        self.slot = slot

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(image)
        return logits


def lstm(order: str) -> SpatialLSTM:
    return SpatialLSTM(4, 1, order=order, stride=None, **SETTINGS)


@pytest.mark.parametrize("inference", [False, True])
def test_without_a_scan_the_field_is_that_of_the_convolution(inference: bool) -> None:
    net = Net(nn.Identity()).eval()
    with torch.inference_mode(inference):  # a test of Lightning runs in it
        fields = influence(net, net.slot, torch.rand(1, 3, 9, 11))
    reached = fields.image.nonzero()
    assert reached.min(0).values.tolist() == [3, 4]
    assert reached.max(0).values.tolist() == [5, 6]
    assert fields.slot.nonzero().tolist() == [[4, 5]]


def test_a_scan_reaches_everything_and_rows_only_their_row() -> None:
    torch.manual_seed(0)
    everything = Net(lstm("zigzag")).eval()
    assert (influence(everything, everything.slot, torch.rand(1, 3, 6, 7)).slot > 0).all()
    one_row = Net(lstm("rows")).eval()
    reached = influence(one_row, one_row.slot, torch.rand(1, 3, 6, 7)).slot.nonzero()
    assert set(reached[:, 0].tolist()) == {3}


@pytest.mark.parametrize("name", orders.__all__)
def test_layout_is_the_order_seen_from_the_map(name: str) -> None:
    scan = lstm(name).scans[0]
    ((order, _),) = bind_arguments([name], {})
    layout = scan.layout(5, 7)  # type: ignore[operator]
    for number, row in enumerate(order(5, 7)):
        for step, position in enumerate(row[row >= 0].tolist()):
            assert layout.sequences.flatten()[position] == number
            assert layout.steps.flatten()[position] == step


def test_distances_by_hand() -> None:
    assert plane_distances((3, 4))[1].tolist() == [2, 1, 0, 1]
    sequences, steps = np.array([[0, 0], [1, 1]]), np.array([[0, 1], [0, 1]])
    away = scan_distances(sequences, steps, (0, 0))
    assert away[0].tolist() == [0, 1]
    assert np.isnan(away[1]).all()
    distances, means = falloff(np.array([[8.0, 2.0], [5.0, 5.0]]), away)
    assert (distances.tolist(), means.tolist()) == ([0, 1], [8, 2])


def test_radius_and_pooling_keep_the_sum() -> None:
    field = np.zeros((9, 9))
    field[4, 4], field[4, 7] = 0.6, 0.4
    assert (radius(field, 0.5), radius(field, 0.9)) == (0, 3)
    pooled = shrink(field, 4)
    assert pooled.shape == (3, 3)
    assert pooled.sum() == pytest.approx(1)
    assert pooled[1, 1] == pytest.approx(1)


def test_a_scan_is_drawn_in_its_order() -> None:
    layout = lstm("spiral").scans[0].layout(2, 3)  # type: ignore[operator]
    sequences, steps = layout.sequences.numpy(), layout.steps.numpy()
    assert way_of(sequences, steps, 0) == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]
    drawing = draw_scan(sequences, steps, "spiral")
    assert 'd="M6 6 18 6 30 6 30 18 18 18 6 18"' in drawing
    rows = lstm("rows").scans[0].layout(2, 3)  # type: ignore[operator]
    assert draw_scan(rows.sequences.numpy(), rows.steps.numpy(), "rows").count('class="grown"') == 2


def test_a_run_leaves_its_analysis_and_testing_again_keeps_the_cost(tiny: Compose, tmp_path: Path) -> None:
    lstm_size = ("lstm.stride=32", "decoder=fpn", "callbacks.inspection.images=2")
    train(tiny(*lstm_size))
    with np.load(tmp_path / "run" / "analysis.npz") as found:
        assert found["field"].shape == (32, 48)
        assert found["field"].sum() > 0
        assert found["slot_field"].shape == (16, 16)  # stride 4, of the image padded to 64 x 64
        assert found["pooling"] == 8
        assert found["steps"].shape == (1, 2, 2)
        assert found["cover"].tolist() == [0.5, 0.75]
        assert found["orders"].tolist() == ["zigzag"]
    before = json.loads((tmp_path / "run" / "metrics.json").read_text())
    (tmp_path / "run" / "analysis.npz").unlink()
    train(tiny(*lstm_size, "train=false"))
    assert (tmp_path / "run" / "analysis.npz").is_file()
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == before
    assert before["train_seconds"] > 0


def test_the_analysis_can_be_left_out(tiny: Compose, tmp_path: Path) -> None:
    train(tiny("callbacks.inspection.images=0", "lstm=none"))
    assert not (tmp_path / "run" / "analysis.npz").exists()
