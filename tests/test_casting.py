"""Weights are cast once an evaluation, and nothing else differs."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from torch.utils._python_dispatch import TorchDispatchMode

from segmentation import trainer
from segmentation.train import fit_and_test
from tests.conftest import Compose


class Casts(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch publishes no types for it
    """Counts how often each weight is cast."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "_to_copy" in str(func) and kwargs and kwargs.get("dtype") == torch.bfloat16 and args[0].requires_grad:
            self.counts[args[0].data_ptr()] += 1
        return func(*args, **(kwargs or {}))


def settings_of(tiny: Compose, folder: Path, *words: str) -> dict[str, Any]:
    splits = "data.splits={train:8,val:5,test:5}"
    config = tiny("trainer.precision=bf16", "trainer.max_epochs=2", splits, f"output={folder}", *words)
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


@pytest.mark.parametrize(("kept", "times"), [(True, 1), (False, 5)])
def test_a_weight_is_cast_once_an_evaluation(
    kept: bool, times: int, tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import segmentation.callbacks

    if not kept:
        monkeypatch.setattr(trainer, "CastOnce", pl.Callback)

    counted: list[Counter[int]] = []

    class Watch(pl.Callback):
        def begin(self, *_: Any) -> None:
            self.casts = Casts()
            self.casts.__enter__()  # type: ignore[no-untyped-call]

        def end(self, *_: Any) -> None:
            self.casts.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            counted.append(self.casts.counts)

        on_validation_epoch_start = on_test_epoch_start = begin  # type: ignore[assignment]
        on_validation_epoch_end = on_test_epoch_end = end  # type: ignore[assignment]

    monkeypatch.setattr(segmentation.callbacks, "Watch", Watch, raising=False)
    settings = settings_of(tiny, tmp_path)
    settings["callbacks"] = {"watch": {"_target_": "segmentation.callbacks.Watch"}}
    fit_and_test(settings, tmp_path, None)
    assert [set(casts.values()) for casts in counted] == [{times}] * 3  # two validations and the test
    assert min(len(casts) for casts in counted) > 5


@pytest.mark.parametrize("words", [(), ("callbacks=ema", "callbacks.ema.decay=0.5")])
def test_scores_are_those_of_weights_cast_at_every_step(
    words: tuple[str, ...], tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = []
    for folder in (tmp_path / "once", tmp_path / "always"):
        folder.mkdir()
        fit_and_test(settings_of(tiny, folder, *words), folder, None)
        rows = json.loads((folder / "history.json").read_text())
        scores.append([{key: value for key, value in row.items() if key != "seconds"} for row in rows])
        scores[-1].append(json.loads((folder / "metrics.json").read_text())["mean_iou"])
        monkeypatch.setattr(trainer, "CastOnce", pl.Callback)
    assert scores[0] == scores[1]


def test_no_autocast_outlives_an_evaluation_that_failed(tiny: Compose, tmp_path: Path) -> None:
    settings = settings_of(tiny, tmp_path, "test=false")
    evaluation = trainer.build_trainer(settings["trainer"], tmp_path)

    class Module(pl.LightningModule):
        def validation_step(self, *_: Any) -> None:
            raise RuntimeError("here")

    with pytest.raises(RuntimeError, match="here"):
        evaluation.validate(Module(), torch.utils.data.DataLoader([0]), verbose=False)  # type: ignore[arg-type]
    assert not torch.is_autocast_enabled("cpu")
    assert torch.is_autocast_cache_enabled()
