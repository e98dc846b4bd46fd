"""Every scan order, on maps of every shape: a permutation, an exact inverse, neighbours as near as it promises."""

import pytest
import torch

from segmentation.errors import UserError
from segmentation.models import orders
from segmentation.models.scans import bind_arguments, find_order, lay_out

SHAPES = [
    (1, 1),
    (1, 7),
    (6, 1),
    (2, 2),
    (3, 4),
    (4, 3),
    (5, 5),
    (6, 8),
    (8, 6),
    (7, 12),
    (9, 16),
    (11, 15),
    (13, 2),
    (30, 40),
]
NAMES = sorted(orders.__all__)
# The farthest that successive positions of a sequence may lie apart, in rows or columns.
REACH = {"zigzag": 1, "snake": 1, "spiral": 1, "hilbert": 1, "rows": 1, "columns": 1}


def test_the_module_holds_orders_only() -> None:
    public = {name for name, value in vars(orders).items() if getattr(value, "__module__", "") == orders.__name__}
    assert {name for name in public if not name.startswith("_")} == set(NAMES)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_permutation_with_an_exact_inverse(name: str, shape: tuple[int, int]) -> None:
    order = find_order(name)(*shape)
    positions = shape[0] * shape[1]
    assert order.dtype == torch.long
    assert order.ndim == 2
    assert order[order >= 0].sort().values.tolist() == list(range(positions))
    fill = order < 0
    assert not (fill[:, :-1] & ~fill[:, 1:]).any(), "fill belongs to the ends of rows"
    plan = lay_out(order, positions)
    visited = plan.visited
    values = torch.randn(positions)
    assert torch.equal(values[visited][plan.inverse], values)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", REACH)
def test_successive_positions_touch(name: str, shape: tuple[int, int]) -> None:
    for sequence in find_order(name)(*shape):
        rows, columns = sequence // shape[1], sequence % shape[1]
        far = torch.maximum(rows.diff().abs(), columns.diff().abs())
        assert all(step <= REACH[name] for step in far.tolist())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_only_one_corner_in_snakes_spirals_and_hilbert_curves(shape: tuple[int, int]) -> None:
    for name, corners in (("snake", 0), ("spiral", 0), ("hilbert", 1)):
        sequence = find_order(name)(*shape)[0]
        steps = (sequence // shape[1]).diff().abs() + (sequence % shape[1]).diff().abs()
        assert int((steps > 1).sum()) <= corners, name


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("raster", [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]]),
        ("snake", [[0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11]]),
        ("zigzag", [[0, 1, 4, 8, 5, 2, 3, 6, 9, 10, 7, 11]]),
        ("spiral", [[0, 1, 2, 3, 7, 11, 10, 9, 8, 4, 5, 6]]),
        ("rows", [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
        ("columns", [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]),
    ],
)
def test_three_by_four_by_hand(name: str, by_hand: list[list[int]]) -> None:
    assert find_order(name)(3, 4).tolist() == by_hand


def test_windows_that_do_not_divide() -> None:
    assert orders.windows(3, 3, size=2).tolist() == [[0, 1, 3, 4], [2, 5, -1, -1], [6, 7, -1, -1], [8, -1, -1, -1]]


def test_arguments_change_the_order() -> None:
    assert orders.windows(8, 8, size=2).shape != orders.windows(8, 8, size=4).shape
    assert not torch.equal(orders.shuffle(4, 4, seed=0), orders.shuffle(4, 4, seed=1))
    assert torch.equal(orders.shuffle(4, 4, seed=1), orders.shuffle(4, 4, seed=1))


def test_hilbert_keeps_near_what_a_raster_parts() -> None:
    """On a 16 x 16 map, positions at most 8 steps apart in the scan lie in a small neighbourhood."""
    spread = {}
    for name in ("hilbert", "raster"):
        sequence = find_order(name)(16, 16)[0]
        points = torch.stack([sequence // 16, sequence % 16], 1).float()
        spread[name] = (points[8:] - points[:-8]).norm(dim=1).mean()
    assert spread["hilbert"] < 0.6 * spread["raster"]


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="did you mean 'zigzag'"):
        find_order("zigzak")
    with pytest.raises(UserError, match="cannot import"):
        find_order("no.such.order")
    with pytest.raises(
        UserError, match=r"lstm.order_args.sise: rows and windows take no such argument; did you mean 'size'"
    ):
        bind_arguments(["rows", "windows"], {"sise": 3})
    with pytest.raises(UserError, match="exactly once"):
        lay_out(torch.tensor([[0, 1, 1]]), 3)


def test_a_list_hands_each_order_its_own_arguments() -> None:
    (_, of_rows), (_, of_windows) = bind_arguments(["rows", "windows"], {"size": 3})
    assert (of_rows, of_windows) == ({}, {"size": 3})
