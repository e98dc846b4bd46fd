"""Scores against counting by hand, paired statistics against worked examples, and the report of a made-up sweep."""

import csv
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from segmentation.analysis import pictures, plots
from segmentation.analysis.cells import WATCHERS, find_cells, find_pairs
from segmentation.analysis.curves import draw_curves
from segmentation.analysis.findings import judge
from segmentation.analysis.gallery import draw_gallery, telling_images
from segmentation.analysis.metrics import scores
from segmentation.analysis.page import write_report
from segmentation.analysis.runs import find_runs
from segmentation.analysis.spans import MEAN, draw_gains
from segmentation.config import CONF
from segmentation.errors import UserError
from tests.made_up import CLASSES, COLOURS, make_run, make_sweep


def test_scores_by_hand() -> None:
    result = scores(np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]), CLASSES)
    assert result["pixel_accuracy"] == 9 / 12
    assert result["per_class"]["sky"] == {"iou": 6 / 9, "accuracy": 6 / 8, "dice": 12 / 15, "pixels": 8}
    assert result["mean_iou"] == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert result["mean_accuracy"] == pytest.approx((6 / 8 + 3 / 4) / 2)
    assert result["mean_dice"] == pytest.approx((12 / 15 + 6 / 9) / 2)
    assert result["absent_classes"] == ["<b>car</b>"]
    assert result["per_class"]["<b>car</b>"] == {"iou": None, "accuracy": None, "dice": None, "pixels": 0}
    json.dumps(result, allow_nan=False)


def test_an_absent_class_predicted_counts_against_the_others() -> None:
    result = scores(np.array([[6, 0, 2], [0, 4, 0], [0, 0, 0]]), CLASSES)
    assert result["per_class"]["sky"]["iou"] == 6 / 8
    assert result["mean_iou"] == pytest.approx((6 / 8 + 1) / 2)


def test_nothing_but_void_has_no_scores() -> None:
    result = scores(np.zeros((3, 3), int), CLASSES)
    assert (result["pixel_accuracy"], result["mean_iou"]) == (None, None)


def test_changes_by_hand() -> None:
    truth, before, after = np.array([[0, 0, 1, 9]]), np.array([[0, 1, 1, 0]]), np.array([[1, 0, 1, 1]])
    picture = pictures.changes(truth, before, after, ignore_index=9)[0].tolist()
    wanted = [pictures.BROKEN, pictures.REPAIRED, pictures.UNCHANGED, pictures.VOID]
    assert picture == [list(colour) for colour in wanted]


def test_masks_are_indices_to_a_program_and_colours_to_an_eye(tmp_path: Path) -> None:
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    pictures.save_mask(tmp_path / "deep" / "mask.png", mask, COLOURS)
    saved = Image.open(tmp_path / "deep" / "mask.png")
    assert np.array_equal(np.asarray(saved), mask)
    assert np.array_equal(np.asarray(saved.convert("RGB")), pictures.colourise(mask, COLOURS))


def test_plots_show_what_they_are_given(tmp_path: Path) -> None:
    history = [{"epoch": 0, "train/loss": 1.0, "val/loss": 2.0}, {"epoch": 1, "train/loss": 0.5, "val/loss": 1.5}]
    loss = plots.curves(history).axes[0]
    assert [np.asarray(line.get_ydata()).tolist() for line in loss.lines] == [[1.0, 0.5], [2.0, 1.5]]
    matrix = plots.confusion_matrix(np.array([[3, 1], [0, 0]]), ["a", "b"]).axes[0]
    assert {text.get_text() for text in matrix.texts} == {"75", "25"}
    bars = plots.class_iou({"a": {"iou": 0.5}, "b": {"iou": None}}).axes[0]
    assert [text.get_text() for text in bars.texts] == ["0.500", "absent"]
    plots.save(plots.curves(history), tmp_path / "x" / "curves.png")
    assert Image.open(tmp_path / "x" / "curves.png").size[0] > 500


def test_errors_stand_beside_the_prediction() -> None:
    truth, prediction = np.array([[0, 1, 2, 255]]), np.array([[0, 2, 2, 1]])
    figure = plots.segmented([(np.zeros((1, 4, 3), np.uint8), truth, prediction)], CLASSES, COLOURS, 255)
    assert [axes.get_title() for axes in figure.axes] == ["image", "truth", "prediction", "errors"]
    errors = np.asarray(figure.axes[3].images[0].get_array())[0].tolist()
    right, wrong, void = (list(colour) for colour in (pictures.UNCHANGED, pictures.BROKEN, pictures.VOID))
    assert errors == [right, wrong, right, void]


class Links(HTMLParser):
    """Collects everything that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]


def test_report_of_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path)
    shapes = np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9), np.uint8)
    page = write_report(sweep, lambda name: shapes)
    rows = json.loads((sweep / "report" / "ablation.json").read_text())
    assert [(row["base"], row["other"], row["seeds"]) for row in rows] == [("none", "zigzag", [0, 1, 2])]
    assert rows[0]["delta"] == pytest.approx([0.02, 0.015, 0.025])
    assert rows[0]["mean"] == pytest.approx(0.02)
    assert rows[0]["interval"] == pytest.approx([0.02 - 0.0124207, 0.02 + 0.0124207], abs=1e-6)
    assert rows[0]["mean_iou"]["mean"] == pytest.approx(0.01)
    table = list(csv.reader((sweep / "report" / "ablation.csv").open()))
    assert [line[1] for line in table] == ["network", "none", "zigzag"]
    assert "+2.00 [+0.76, +3.24]" in table[2]
    assert "+2.00 [+0.76, +3.24]" in (sweep / "report" / "ablation.md").read_text()
    text = page.read_text()
    assert "more than chance (p = 0.020)" in text
    assert "<b>car</b>" not in text
    links = Links()
    links.feed(text)
    assert len(links.found) == 6  # the icon, gains, curves, what changed by kind of pixel and by image, the gallery
    assert all(link.startswith("data:") for link in links.found)
    assert not re.search(r"https?://", text)
    assert (sweep / "report" / "pictures_none_zigzag.png").is_file()
    assert "zigzag" in capsys.readouterr().out


def test_a_small_p_is_not_zero(tmp_path: Path) -> None:
    for seed in range(5):
        make_run(tmp_path / f"n{seed}", "none", seed, 0.8)
        make_run(tmp_path / f"z{seed}", "zigzag", seed, 0.9 + seed / 10_000)
    assert "more than chance (p &lt; 0.001)" in write_report(tmp_path, None).read_text()


def test_report_without_masks_says_so(tmp_path: Path) -> None:
    assert (
        "Left out: where the networks differ: the images and masks of the test split are not there"
        in write_report(make_sweep(tmp_path), None).read_text()
    )


def test_report_without_predictions_says_so(tmp_path: Path) -> None:
    for path in make_sweep(tmp_path).glob("*/predictions/*"):
        path.unlink()
    shapes = np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9), np.uint8)
    assert re.search(
        r"Left out: where the networks differ: .*predictions/i0\.png",
        write_report(tmp_path, lambda name: shapes).read_text(),
    )


def test_labels_name_what_was_set_beside_the_choice_unless_for_all(tmp_path: Path) -> None:
    for name, lstm, order in (("a", "none", "spiral"), ("b", "zigzag", "snake")):
        make_run(tmp_path / name, lstm, 0, 0.8)
        words = [f"lstm={lstm}", f"lstm.order={order}", "lstm.stride=8", "seed=0"]
        (tmp_path / name / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    labels = [cell.label for cell in find_cells(find_runs(tmp_path)[0])]
    assert labels == ["none lstm.order=spiral", "zigzag lstm.order=snake"]


def test_report_of_one_run(tmp_path: Path) -> None:
    make_run(tmp_path / "only", "zigzag", 0, 0.8)
    text = write_report(tmp_path / "only", None).read_text()
    assert "no pair to compare" in text
    assert json.loads((tmp_path / "only" / "report" / "ablation.json").read_text()) == []


def test_unfinished_runs_are_listed_not_counted(tmp_path: Path) -> None:
    (make_sweep(tmp_path) / "z2" / "metrics.json").unlink()
    runs, unfinished = find_runs(tmp_path)
    assert (len(runs), [path.name for path in unfinished]) == (5, ["z2"])
    assert find_pairs(find_cells(runs))[0].seeds == [0, 1]
    assert "not counted: z2" in " ".join(write_report(tmp_path, None).read_text().split())


def test_other_commands_folders_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "evaluation" / ".hydra").mkdir(parents=True)
    (tmp_path / "evaluation" / ".hydra" / "config.yaml").write_text("model: x\n")
    (tmp_path / "evaluation" / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match="no finished run"):
        find_runs(tmp_path)


def test_telling_images_are_the_extremes(tmp_path: Path) -> None:
    pair = find_pairs(find_cells(find_runs(make_sweep(tmp_path))[0]))[0]
    names = telling_images(pair)
    assert (names[0], names[-1]) == ("i2", "i1")


def test_only_one_thing_may_differ(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "none", 0, 0.8)
    make_run(tmp_path / "b", "zigzag", 0, 0.8, config={"optimizer": {"lr": 0.2}})
    assert find_pairs(find_cells(find_runs(tmp_path)[0])) == []
    make_run(tmp_path / "c", "none", 0, 0.8, config={"optimizer": {"lr": 0.2}})
    pairs = find_pairs(find_cells(find_runs(tmp_path)[0]))
    assert [pair.group for pair in pairs] == ["lstm"]


def test_scores_that_do_not_compare_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "none", 0, 0.8)
    make_run(tmp_path / "b", "zigzag", 0, 0.8, files_hash="other")
    with pytest.raises(UserError, match="its files_hash is 'other' instead of 'abc'"):
        find_cells(find_runs(tmp_path)[0])


def test_a_callback_that_changes_the_training_makes_another_cell_and_one_that_watches_does_not(tmp_path: Path) -> None:
    own = {"cutmix": {"_target_": "segmentation.mixing.CutMix", "seed": "${seed}"}}
    for name, callbacks in (("a", {}), ("b", {"images": {"count": 4}}), ("c", own)):
        data = {"name": "toy", "classes": CLASSES, "ignore_index": 255}
        for seed in range(2):
            changed = {"callbacks": callbacks, "data": data}
            make_run(tmp_path / f"{name}{seed}", "none", seed + 2 * (name == "b"), 0.8, config=changed)
    assert sorted(len(cell.runs) for cell in find_cells(find_runs(tmp_path)[0])) == [2, 4]


def test_callbacks_of_every_training_make_no_cells() -> None:
    assert yaml.safe_load((CONF / "callbacks" / "default.yaml").read_text()).keys() == set(WATCHERS)


def test_classes_without_colours_have_pictures(tmp_path: Path) -> None:
    data = {"name": "toy", "root": "/", "classes": CLASSES, "colours": None, "ignore_index": 255}
    for name in ("none", "zigzag"):
        make_run(tmp_path / name, name, 0, 0.8, config={"data": data})
    (pair,) = find_pairs(find_cells(find_runs(tmp_path)[0]))
    mask = np.zeros((8, 9), np.uint8)
    figure, _ = draw_gallery(pair, lambda name: (np.zeros((8, 9, 3), np.uint8), mask))
    assert figure.axes


def test_networks_of_two_releases_are_no_one_cell(tmp_path: Path) -> None:
    make_run(tmp_path / "old", "mlp", 0, 0.8)
    make_run(tmp_path / "new", "mlp", 1, 0.8, parameters=700_000)
    with pytest.raises(UserError, match=r"new has a network of 700000 parameters, .*old of 11000000"):
        find_cells(find_runs(tmp_path)[0])


def test_the_same_seed_twice_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "none", 0, 0.8)
    make_run(tmp_path / "b", "none", 0, 0.8)
    with pytest.raises(UserError, match="the same configuration and seed"):
        find_cells(find_runs(tmp_path)[0])


def test_without_an_lstm_its_settings_make_no_other_network(tmp_path: Path) -> None:
    """A grid of `lstm=none,zigzag lstm.stride=8,16` trains the baseline twice; it counts once, and beside both."""
    for lstm in ("none", "zigzag"):
        target = "segmentation.models.controls.identity" if lstm == "none" else "SpatialLSTM"
        for stride in (8, 16):
            config = {"lstm": {"_target_": target, "order": lstm, "stride": stride}}
            make_run(tmp_path / f"{lstm}{stride}", lstm, 0, 0.8, config=config)
    cells = find_cells(find_runs(tmp_path)[0])
    assert [cell.label for cell in cells] == [
        "none",
        "zigzag lstm.order=zigzag lstm.stride=16",
        "zigzag lstm.order=zigzag lstm.stride=8",
    ]
    assert [pair.base.label for pair in find_pairs(cells)] == ["none", "none"]


def test_gains_of_all_pairs_in_one_picture(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path)
    for seed, right in enumerate([0.801, 0.81, 0.79]):
        make_run(sweep / f"m{seed}", "mlp", seed, right)
    found = judge(find_pairs(find_cells(find_runs(sweep)[0])))
    accuracy, mean_iou = draw_gains(found).axes
    names = [label.get_text() for label in accuracy.get_yticklabels()]
    assert names == ["zigzag - none", "mlp - none", "zigzag - mlp"]
    spans = [np.asarray(line.get_xdata(), float) for line in accuracy.lines]
    assert spans[1] == pytest.approx([2 - 1.24207, 2 + 1.24207], abs=1e-4)
    for axes in (accuracy, mean_iou):  # p is 0.02 in both before its correction for three pairs
        assert [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"] == ["white"] * 3
    alone = draw_gains(found[:1]).axes[0]
    assert [line.get_markerfacecolor() for line in alone.lines if line.get_marker() == "o"] == [MEAN]
    assert spans[0] == pytest.approx([2.0, 1.5, 2.5])


@pytest.mark.parametrize("setting", [" optimizer.weight_decay=0.0123456789" * 4, "x" * 150], ids=["words", "one word"])
def test_long_names_leave_the_gains_their_room(setting: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    for name, lstm in (("n", "none"), ("z", "zigzag")):
        make_run(tmp_path / name, lstm, 0, 0.8)
    cells = [dataclasses.replace(cell, label=cell.label + setting) for cell in find_cells(find_runs(tmp_path)[0])]
    figure = draw_gains(judge(find_pairs(cells)))
    plots.save(figure, tmp_path / "gains.png")
    assert not recwarn.list
    assert min(axes.get_position().width for axes in figure.axes) > 0.2


def test_one_seed_has_a_place_among_the_gains_but_no_interval(tmp_path: Path) -> None:
    make_run(tmp_path / "n", "none", 0, 0.8)
    make_run(tmp_path / "z", "zigzag", 0, 0.82)
    axes = draw_gains(judge(find_pairs(find_cells(find_runs(tmp_path)[0])))).axes[0]
    assert [line.get_marker() for line in axes.lines] == ["|", "o", "None"]  # seed, mean, zero


@pytest.mark.parametrize(
    ("setting", "columns"), [("", 2), (" backbone.args.depth=2 lstm.stride=4 optimizer.lr=0.01", 1)]
)
def test_long_names_have_a_whole_legend(setting: str, columns: int, tmp_path: Path) -> None:
    cells = find_cells(find_runs(make_sweep(tmp_path))[0])
    figure = draw_curves([dataclasses.replace(cell, label=cell.label + setting) for cell in cells])
    figure.draw_without_rendering()
    extent = figure.legends[0].get_window_extent()
    assert extent.x0 > 0
    assert extent.x1 < figure.bbox.x1
    assert len({round(text.get_window_extent().x0) for text in figure.legends[0].get_texts()}) == columns


def test_curves_stand_at_the_epochs_that_were_validated(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path)
    for file in sweep.rglob("history.json"):
        epochs = [1, 3, 5] if file.parent.name == "n0" else [1, 3]
        rows = [{"epoch": epoch} | ({"val/mean_iou": 0.1} if epoch in epochs else {}) for epoch in range(6)]
        file.write_text(json.dumps(rows))
    axes = draw_curves(find_cells(find_runs(sweep)[0])).axes[1]
    drawn = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
    assert drawn.count([2, 4, 6]) == 1
    assert drawn.count([2, 4]) == 7  # five runs, and the mean of each of two cells
