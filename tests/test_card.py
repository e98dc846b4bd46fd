"""The model's card: its figures, and names that must not become markup."""

import json
from pathlib import Path
from typing import Any

import yaml

from segmentation.card import CARD, write_card
from segmentation.train import train
from tests.conftest import Compose
from tests.settings import saved

SCORES = {"iou": 0.25, "accuracy": 0.5, "dice": 0.4, "pixels": 7}


def metrics(*classes: str) -> dict[str, Any]:
    figures = {"mean_iou": 0.25, "mean_accuracy": 0.5, "mean_dice": 0.4, "pixel_accuracy": 0.75}
    contract = {"split": "val", "num_images": 3, "ignore_index": 255, "resolution": "mask", "files_hash": "abc123"}
    return {**contract, **figures, "absent_classes": [], "per_class": dict.fromkeys(classes, SCORES)}


def test_names_stay_names(tmp_path: Path) -> None:
    evil = ["|x|", "<script>alert(1)</script>", "a\n# heading", "`code`", "[link](http://x)", "{{ 7 * 7 }}"]
    saved(tmp_path, classes=evil)
    write_card(tmp_path, metrics(*evil), "<b>|data\n---\n")
    text = (tmp_path / CARD).read_text()
    assert "<script" not in text
    assert "<b>|" not in text.partition("\n---\n")[2]
    assert "\n# heading" not in text
    assert r"{{ 7 \* 7 }}" in text
    rows = [line for line in text.splitlines() if line.endswith("| 0.2500 | 0.5000 | 0.4000 | 7 |")]
    assert len(rows) == len(evil)
    assert {row.replace("\\|", "").count("|") for row in rows} == {6}  # each still five cells
    front = yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else {}
    assert front["pipeline_tag"] == "image-segmentation"


def test_figures_for_the_hub(tmp_path: Path) -> None:
    saved(tmp_path)
    write_card(tmp_path, metrics("a", "b", "c"), "camvid")
    front = yaml.safe_load((tmp_path / CARD).read_text().split("---\n")[1])
    result = front["model-index"][0]["results"][0]
    assert result["dataset"] == {"name": "camvid", "type": "camvid", "split": "val"}
    assert {metric["type"]: metric["value"] for metric in result["metrics"]}["mean_iou"] == 0.25


def test_without_a_test_there_are_no_figures(tmp_path: Path) -> None:
    saved(tmp_path)
    write_card(tmp_path, None, "camvid")
    text = (tmp_path / CARD).read_text()
    assert "never tested" in text
    assert "model-index" not in text


def test_a_run_has_its_card(tiny: Compose, tmp_path: Path) -> None:
    scores = train(tiny("trainer.max_epochs=1"))
    text = (tmp_path / "run" / CARD).read_text()
    assert f"| mean\\_iou | {scores['mean_iou']:.4f} |" in text
    contract = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert contract["files_hash"] in text
    assert str(tmp_path) not in text  # nothing of the user's machine


def test_a_card_says_what_decided_its_figures(tmp_path: Path) -> None:
    saved(tmp_path, lstm___target_="segmentation.models.controls.identity")
    (tmp_path / ".hydra").mkdir()
    run = {"lstm": {"_target_": "segmentation.models.controls.identity", "order": "zigzag"}, "data": {"limit": 80},
           "trainer": {"max_epochs": 7}}  # fmt: skip
    (tmp_path / ".hydra" / "config.yaml").write_text(yaml.safe_dump(run))
    write_card(tmp_path, metrics("a", "b") | {"split": "val"})
    text = (tmp_path / CARD).read_text()
    assert '"trainer.max_epochs": 7' in text
    assert '"data.limit": 80' in text
    assert "zigzag" not in text  # the settings of what is not there
    assert "validated on this split" in text
    write_card(tmp_path, metrics("a", "b") | {"split": "test"})
    assert "flatters" not in (tmp_path / CARD).read_text()
