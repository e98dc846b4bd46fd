"""Runs that a stranger made, or a disk spoilt, in a report: read rightly, or refused in one line."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from segmentation import report
from segmentation.analysis.page import write_report
from segmentation.analysis.runs import find_runs
from segmentation.errors import UserError
from tests.made_up import make_run


def test_no_link_out_of_a_run_gets_into_its_report(tmp_path: Path) -> None:
    """The page is made to be shared."""
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), (1, 2, 3)).save(secret)
    make_run(tmp_path / "sweep" / "run", "none", 0, 0.8)
    shown = tmp_path / "sweep" / "run" / "plots" / "segmented.png"
    shown.parent.mkdir()
    shown.write_bytes(secret.read_bytes())
    held = base64.b64encode(secret.read_bytes()).decode()
    assert held in write_report(tmp_path / "sweep", None).read_text()
    shown.unlink()
    shown.symlink_to(secret)
    assert held not in write_report(tmp_path / "sweep", None).read_text()
    shown.unlink()
    shown.write_text("a key")
    with pytest.raises(UserError, match=r"segmented.png: no PNG"):
        write_report(tmp_path / "sweep", None)


@pytest.mark.parametrize("change", [
    {"parameters": "x"}, {"train_seconds": "y"}, {"files_hash": [1]}, {"absent_classes": 5}, {"per_class": [1]},
    {"history": [{"epoch": 0, "val/mean_iou": "z"}]}, {"history": [{"val/mean_iou": 0.5}]}, {"history": 5},
])  # fmt: skip
def test_scores_of_a_stranger_are_numbers_or_refused(change: dict[str, Any], tmp_path: Path) -> None:
    make_run(tmp_path / "run", "none", 0, 0.8, **{key: value for key, value in change.items() if key != "history"})
    if "history" in change:
        (tmp_path / "run" / "history.json").write_text(json.dumps(change["history"]))
    with pytest.raises(UserError, match=str(tmp_path / "run")):
        find_runs(tmp_path)


def test_the_report_ends_a_fault_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run", "none", 0, 0.8)
    (tmp_path / "report").symlink_to("report")  # to itself
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path), "--no-cost"])
    with pytest.raises(SystemExit, match=r"^error: .*report") as caught:
        report.main()
    assert "\n" not in str(caught.value)
