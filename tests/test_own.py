"""A network's own settings: the best of those tried, for each network the same ones; the rest is passed over."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from segmentation import report
from segmentation.analysis.cells import find_cells, find_pairs
from segmentation.analysis.page import write_report
from segmentation.analysis.runs import find_runs
from segmentation.analysis.settings import without
from segmentation.errors import UserError
from tests.made_up import make_run

RATES = {  # network, rate -> validation and test score: what validates best tests worse
    ("none", 0.1): (0.5, 0.80), ("none", 0.01): (0.6, 0.70), ("none", 0.001): (0.2, 0.90),
    ("zigzag", 0.1): (0.7, 0.85), ("zigzag", 0.01): (0.6, 0.95),
}  # fmt: skip


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for (lstm, rate), (validated, tested) in RATES.items():
        for seed in (0, 1):
            folder = tmp_path / f"{lstm}-{rate}-{seed}"
            make_run(folder, lstm, seed, tested + 0.01 * seed, config={"optimizer": {"lr": rate, "name": "AdamW"}})
            lucky = seed == 0 and (lstm, rate) == ("none", 0.001)  # best of all with one seed, and not in the mean
            row = {"epoch": 0, "val/mean_iou": 0.7 if lucky else validated, "val/pixel_accuracy": 0.5}
            (folder / "history.json").write_text(json.dumps([row, row | {"val/mean_iou": 0.1}]))
            (folder / ".hydra" / "overrides.yaml").write_text(f"[optimizer.lr={rate}, lstm={lstm}]")
    return tmp_path


def test_each_network_is_shown_at_what_validated_best_and_not_at_what_tested_best(sweep: Path) -> None:
    runs = find_runs(sweep)[0]
    none, zigzag = find_cells(runs, ["optimizer.lr"])
    assert (none.label, zigzag.label) == ("none", "zigzag")
    assert none.values("pixel_accuracy") == [0.70, 0.71]
    assert zigzag.values("pixel_accuracy") == [0.85, 0.86]
    assert str(none.own) == "optimizer.lr=0.01 (of 0.001, 0.01, 0.1)"
    (pair,) = find_pairs([none, zigzag])
    assert (pair.group, pair.seeds) == ("lstm", [0, 1])
    assert len(find_cells(runs)) == 5  # without the option all of them, and no pair at unequal rates
    assert {pair.base.settings["optimizer"]["lr"] for pair in find_pairs(find_cells(runs))} == {0.1, 0.01}


def test_a_loss_is_best_where_it_is_lowest(sweep: Path) -> None:
    for file in sweep.rglob("config.yaml"):
        file.write_text(file.read_text() + "monitor: val/loss\n")
    for file in sweep.rglob("history.json"):
        file.write_text(file.read_text().replace("val/mean_iou", "val/loss"))
    for file in sweep.rglob("history.json"):
        file.write_text(json.dumps(json.loads(file.read_text())[:1]))
    assert str(find_cells(find_runs(sweep)[0], ["optimizer.lr"])[0].own).startswith("optimizer.lr=0.001 ")


def test_the_report_says_what_was_chosen_and_on_what(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["report", str(sweep), "--no-cost", "--own", "optimizer.lr"])
    report.main()
    printed = " ".join(capsys.readouterr().out.split())
    assert "by the mean over seeds of the best val/mean_iou: none" in printed
    said = "none optimizer.lr=0.01 (of 0.001, 0.01, 0.1), zigzag optimizer.lr=0.1 (of 0.01, 0.1)."
    assert said in printed
    assert "flatters" not in printed
    assert said in (sweep / "report" / "index.html").read_text()
    (row,) = json.loads((sweep / "report" / "ablation.json").read_text())
    assert row["own"] == {"none": {"optimizer.lr": 0.01}, "zigzag": {"optimizer.lr": 0.1}}
    for file in sweep.rglob("metrics.json"):
        file.write_text(file.read_text().replace('"test"', '"val"'))
    report.main()
    assert "flatters" in capsys.readouterr().out


def test_a_choice_without_a_pair_is_said_too(sweep: Path) -> None:
    for folder in [file.parent for file in sweep.rglob("metrics.json")]:
        if "lstm=zigzag" in (folder / ".hydra" / "overrides.yaml").read_text():
            shutil.rmtree(folder)
    text = " ".join(write_report(sweep, None, own=["optimizer.lr"]).read_text().split())
    assert "no pair to compare" in text
    assert "none optimizer.lr=0.01 (of 0.001, 0.01, 0.1)" in text


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("optimizer.rate", "no such key"),
        ("optimizer", "a group; name one of its keys, such as optimizer.lr"),
        ("backbone.name", "not a setting that a network can have of its own"),
        ("lstm.order", "not a setting that a network can have of its own"),
    ],
)
def test_a_key_that_chooses_nothing_is_said(key: str, said: str, sweep: Path) -> None:
    with pytest.raises(UserError, match=said):
        find_cells(find_runs(sweep)[0], [key])


def test_runs_that_were_not_validated_are_named(sweep: Path) -> None:
    for file in sweep.rglob("history.json"):
        file.write_text("[]")
    with pytest.raises(UserError, match=r"history.json has no val/mean_iou, by which --own chooses"):
        find_cells(find_runs(sweep)[0], ["optimizer.lr"])


def test_values_are_compared_over_the_same_seeds(sweep: Path) -> None:
    (sweep / "none-0.1-1" / "metrics.json").unlink()
    with pytest.raises(
        UserError, match=r"with optimizer.lr=0.1 there are seeds \[0\], with optimizer.lr=0.001 \[0, 1\]"
    ):
        find_cells(find_runs(sweep)[0], ["optimizer.lr"])


def test_a_list_can_be_a_networks_own(sweep: Path) -> None:
    for file in sweep.rglob("config.yaml"):
        file.write_text(file.read_text().replace("lr: 0.1", "lr: [0.1, 0.2]"))
    assert (
        str(find_cells(find_runs(sweep)[0], ["optimizer.lr"])[1].own) == "optimizer.lr=[0.1, 0.2] (of 0.01, [0.1, 0.2])"
    )


def test_only_the_named_keys_are_left_out() -> None:
    settings = {"a": {"b": {"c": 1, "d": 2}, "e": 3}, "f": 4}
    assert without(settings, ["a.b.c", "f"]) == {"a": {"b": {"d": 2}, "e": 3}}
    assert without(settings, []) == settings
