"""The Trainer takes each key of its schema to Lightning, and says so in one line where Lightning refuses."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from segmentation import trainer
from segmentation.config import TrainerConfig
from segmentation.errors import UserError

CPU = asdict(TrainerConfig(accelerator="cpu", devices=1, precision="32"))


def build(tmp_path: Path, **changes: Any) -> Any:
    return trainer.build_trainer(CPU | changes, tmp_path)


def test_keys_reach_lightning(tmp_path: Path) -> None:
    built = build(
        tmp_path, max_epochs=7, accumulate_grad_batches=3, gradient_clip_val=0.5, args={"limit_train_batches": 2}
    )
    assert (built.max_epochs, built.accumulate_grad_batches, built.gradient_clip_val) == (7, 3, 0.5)
    assert built.limit_train_batches == 2
    assert build(tmp_path, fast_dev_run=True).fast_dev_run


@pytest.mark.parametrize(("word", "lightnings"), trainer.PRECISIONS.items())
def test_precision_words(word: str, lightnings: str) -> None:
    assert trainer.lightning_precision(word, "cpu") == lightnings
    assert trainer.lightning_precision(lightnings, "cpu") == lightnings


@pytest.mark.parametrize(("computes", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_precision_asks_the_device(computes: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "computes_bf16", lambda accelerator: computes)
    assert trainer.lightning_precision("auto", "cpu") == expected


@pytest.mark.parametrize(
    "change", [{"precision": "bf61"}, {"accelerator": "gpuu"}, {"args": {"max_step": 3}}, {"strategy": "dpp"}]
)
def test_mistakes_are_one_line(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trainer"):
        build(tmp_path, **change)
