"""Where networks differ: kinds of pixels against counting by hand, and a report that adds up."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from segmentation.analysis import pictures
from segmentation.analysis.bootstrap import find_units
from segmentation.analysis.cells import find_cells, find_pairs
from segmentation.analysis.metrics import class_scores
from segmentation.analysis.runs import find_runs
from segmentation.analysis.strata import boundary_distance, region_size, scan_position
from segmentation.analysis.where import as_rows, changes, comparable, examine
from segmentation.models import orders
from tests.made_up import COLOURS, make_run, make_sweep


def test_boundary_distance_by_hand() -> None:
    stratum = boundary_distance()
    truth = np.repeat([0, 1], [30, 30])[None].repeat(3, 0)
    bands = stratum.assign(truth)[1]
    # Pixels 28 and 29 are 2 and 1 away from the first of the other label, as are 30 and 31.
    assert [stratum.bands[band] for band in bands[[29, 28, 27, 25, 24, 20, 19, 10, 9]]] == [
        "≤ 2 px", "≤ 2 px", "3 to 5 px", "3 to 5 px", "6 to 10 px", "6 to 10 px", "11 to 20 px", "11 to 20 px",
        "> 20 px",
    ]  # fmt: skip
    assert np.array_equal(bands, bands[::-1])
    assert set(stratum.assign(np.zeros((5, 6), int)).flatten()) == {len(stratum.bands) - 1}


def test_region_size_by_hand() -> None:
    stratum = region_size()
    truth = np.zeros((100, 100), int)
    truth[0, :5] = 1  # 0.05 %
    truth[10:15, 10:20] = 1  # 0.5 %
    truth[20:30, 20:30] = 2  # 1 %
    names = np.array(stratum.bands)[stratum.assign(truth)]
    assert [names[0, 0], names[12, 12], names[25, 25], names[99, 99]] == [
        "< 0.1 %",
        "0.1 to 1 %",
        "1 to 10 %",
        "≥ 10 %",
    ]


def test_the_same_label_far_apart_is_two_regions() -> None:
    truth = np.zeros((100, 100), int)
    truth[:, 0] = truth[:, 99] = 1  # 1 % each
    assert region_size().bands[region_size().assign(truth)[0, 0]] == "1 to 10 %"


def test_scan_position_follows_the_order() -> None:
    order = orders.raster(10, 4)
    steps = np.empty(40, int)
    steps[order[0].numpy()] = np.arange(40)
    stratum = scan_position("raster", np.zeros((10, 4), int), steps.reshape(10, 4), (0.5, 1.0))
    bands = stratum.assign(np.zeros((50, 8), int))
    assert bands.shape == (50, 8)
    assert bands[0].tolist() == [0] * 8
    assert bands[-1].tolist() == [4] * 8  # only the upper half of the map lies over the image


def leave_scan(folder: Path) -> None:
    """What a run with a LSTM leaves of its scan."""
    np.savez(
        folder / "analysis.npz",
        field=np.ones((2, 2)),
        slot_field=np.ones((2, 2)),
        orders=np.array(["zigzag"]),
        drawn_sequences=np.zeros((1, 2, 2), int),
        drawn_steps=np.zeros((1, 2, 2), int),
        sequences=np.zeros((1, 2, 2), int),
        steps=np.arange(4).reshape(1, 2, 2),
        cover=np.ones(2),
    )


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return make_sweep(tmp_path)


def truth_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The made-up runs predict class `index % 3` everywhere; the truth is class 0 on the left, void at the top."""
    truth = np.zeros((8, 9), np.uint8)
    truth[:, 5:] = 1
    truth[0] = 255
    return np.zeros((8, 9, 3), np.uint8), truth


def test_equal_predictions_differ_nowhere(sweep: Path) -> None:
    (where,) = examine(find_pairs(find_cells(find_runs(sweep)[0])), truth_of)
    assert {change.mean for changed in where.strata.values() for change in changed} == {0}
    assert [total for total, _ in where.totals.values()] == [0, 0]


def test_changes_add_up_and_void_counts_nothing(sweep: Path) -> None:
    right, wrong = np.zeros((8, 9), np.uint8), np.zeros((8, 9), np.uint8)
    right[:, 5:] = 1
    wrong[0] = 2  # void there
    for seed in range(3):
        for index in range(4):
            pictures.save_mask(sweep / f"n{seed}" / "predictions" / f"i{index}.png", wrong, COLOURS)
            pictures.save_mask(sweep / f"z{seed}" / "predictions" / f"i{index}.png", right, COLOURS)
    (where,) = examine(find_pairs(find_cells(find_runs(sweep)[0])), truth_of)
    assert where.totals["repaired"][0] == pytest.approx(4 / 9)
    assert where.totals["broken"][0] == 0
    for changed in where.strata.values():
        assert sum(change.share for change in changed) == pytest.approx(1)
        assert sum(change.share * change.mean for change in changed) == pytest.approx(4 / 9)
        assert all(change.images.low - 1e-9 <= change.mean <= change.images.high + 1e-9 for change in changed)
    rows = as_rows([where])
    json.dumps(rows, allow_nan=False)
    assert {row["by"] for row in rows} == {"Class (IoU)", "all pixels", *where.strata}


def test_class_changes_are_those_of_the_scores(sweep: Path) -> None:
    (pair,) = find_pairs(find_cells(find_runs(sweep)[0]))
    (where,) = examine([pair], truth_of)
    before, after = (cell.runs[0].confusions().confusion.sum(0) for cell in (pair.base, pair.other))  # type: ignore[union-attr]
    wanted = class_scores(after)["iou"] - class_scores(before)["iou"]
    assert [change.name for change in where.classes] == ["sky", "road"]  # no true pixel is of the third
    assert where.classes[0].seeds[0] == pytest.approx(wanted[0])


def test_pairs_without_confusions_are_named(sweep: Path) -> None:
    pairs = find_pairs(find_cells(find_runs(sweep)[0]))
    assert comparable(pairs) == (pairs, [])
    (sweep / "z1" / "confusion.npz").unlink()
    usable, (reason,) = comparable(pairs)
    assert usable == []
    assert re.search(r"zigzag - none .*z1/confusion\.npz is not there", reason)


def test_lines_stand_out_by_chance_in_at_most_one_of_twenty() -> None:
    """Without any effect, however much trainings differ: an interval over images alone would not see that."""
    rng = np.random.default_rng(5)
    units = find_units([str(index) for index in range(10)], None)
    pixels = np.full((10, 1), 10_000)
    for noise in (0.0, 0.002, 0.01):
        stood_out = 0
        for _ in range(400):
            shared = rng.normal(0, 0.01, (10, 1))  # images differ in what the change does to them
            base = [np.full((10, 1), 8000)] * 5
            other = [8000 + np.rint(10_000 * (shared + rng.normal(0, noise))).astype(int) for _ in range(5)]
            (change,) = changes(["all"], base, other, pixels, units)
            stood_out += change.stands_out
        assert stood_out / 400 <= 0.075


def test_a_scan_over_maps_of_several_shapes_is_left_out(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "none", 0, 0.8)
    make_run(tmp_path / "b", "zigzag", 0, 0.8)
    leave_scan(tmp_path / "b")
    for name in ("a", "b"):
        pictures.save_mask(tmp_path / name / "predictions" / "i0.png", np.zeros((4, 5), np.uint8), COLOURS)
    shapes = {"i0": (4, 5)}
    pairs = find_pairs(find_cells(find_runs(tmp_path)[0]))
    (where,) = examine(pairs, lambda name: (np.zeros(0, np.uint8), np.zeros(shapes.get(name, (8, 9)), np.uint8)))
    assert len(where.strata) == 2


def test_scan_strata_come_from_the_cell_that_scans(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "none", 0, 0.8)
    make_run(tmp_path / "b", "zigzag", 0, 0.8)
    make_run(tmp_path / "c", "mlp", 0, 0.8)
    leave_scan(tmp_path / "b")
    found = examine(find_pairs(find_cells(find_runs(tmp_path)[0])), truth_of)
    with_scan = {(where.pair.base.label, where.pair.other.label): len(where.strata) == 3 for where in found}
    assert with_scan == {("none", "zigzag"): True, ("none", "mlp"): False, ("mlp", "zigzag"): True}
