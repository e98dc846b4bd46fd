"""The Trainer takes each key of its schema to Lightning, and says so in one line where Lightning refuses."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.callbacks import EarlyStopping

from segmentation import trainer
from segmentation.config import TrainerConfig
from segmentation.errors import UserError
from segmentation.train import train
from tests.conftest import Compose

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


@pytest.mark.parametrize(("words", "said"), [
    (("callbacks.best.monitor=val/foo",), "callbacks: ModelCheckpoint watches 'val/foo', which is not logged;"),
    (("callbacks=early_stopping", "+trainer.args.limit_val_batches=0"), "trainer.args.limit_val_batches=0: EarlySt"),
    (("callbacks=early_stopping", "callbacks.early_stopping.monitor=val/foo"), "callbacks: EarlyStopping watches"),
    (("callbacks.images.count=0",), "callbacks.images.count=0: give at least 1"),
    (("+trainer.args.check_val_every_n_epoch=0",), "trainer.args.check_val_every_n_epoch=0: give at least 1"),
    (("+trainer.args.val_check_interval=1000",), "trainer: Lightning refuses this: `val_check_interval`"),
    (("+trainer.args.limit_train_batches=0",), "trainer.args.limit_train_batches=0: nothing would be trained"),
])  # fmt: skip
def test_what_lightning_finds_too_late_is_said_in_a_line(words: tuple[str, ...], said: str, tiny: Compose) -> None:
    with pytest.raises(UserError) as caught:
        train(tiny("test=false", *words))
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_stopping_by_the_training_needs_no_validation(tmp_path: Path) -> None:
    stopper = EarlyStopping("train/loss")
    built = trainer.build_trainer(CPU | {"args": {"limit_val_batches": 0}}, tmp_path, callbacks=[stopper])
    assert stopper in built.early_stopping_callbacks
