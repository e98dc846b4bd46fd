"""Same in, same out: to the last bit, however samples are loaded; and what is not the same is found."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra import compose as compose_config
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file
from torch import Tensor, nn

from segmentation.analysis.page import write_report
from segmentation.check_repeat import check_repeat, conclude
from segmentation.errors import UserError
from segmentation.losses import CrossEntropy
from segmentation.repeats.drift import compare, differences
from segmentation.repeats.effect import Beside
from segmentation.train import train
from tests.conftest import TINY, Compose
from tests.made_up import make_sweep
from tests.test_cache import draw

ROOT = Path(__file__).parent.parent


def test_same_seed_same_bits_however_samples_come(tiny: Compose, tmp_path: Path) -> None:
    """Weights, scores and losses: twice, with 0, 1 and 2 workers, with and without the cache. Another seed: others."""
    draw(tmp_path / "train", 8)
    draw(tmp_path / "val")
    words = (
        "data=folder", f"data.root={tmp_path}", "data.splits={train:null,val:null,test:null}", "decoder=fpn",
        "data.reader.image='{split}/images/{name}.png'", "data.reader.mask='{split}/masks/{name}.png'",
        "data.classes=[a,b,c]", "data.colours=[[0,0,0],[9,9,9],[99,99,99]]", "test=false",
        "logger=none", "trainer.max_epochs=2", f"data.cache={tmp_path / 'store'}",
    )  # fmt: skip
    ways = {"first": "seed=0", "again": "seed=0", "one": "data.num_workers=1", "two": "data.num_workers=2",
            "off": "data.cache=off", "other": "seed=1"}  # fmt: skip
    left = {}
    for name, word in ways.items():
        folder = tmp_path / "runs" / name
        scores = train(tiny(*words, word, f"output={folder}"))  # of the last validation
        weights = {key: value.numpy().tobytes() for key, value in load_file(folder / "model.safetensors").items()}
        losses = [row["train/loss"] for row in json.loads((folder / "history.json").read_text())]
        left[name] = (weights, losses, scores)
    assert list((tmp_path / "store").glob("*.samples"))
    for name in ("again", "one", "two", "off"):
        assert left[name] == left["first"], name
    assert all(one != other for one, other in zip(left["other"], left["first"], strict=True))


class Put(nn.Module):
    """A stand-in for what has no deterministic form: on CPUs, torch's `put_` is one."""

    def __init__(self, channels: int, map_stride: int, **settings: Any) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        places = torch.arange(features.numel())
        return torch.zeros_like(features).put_(places, features.flatten()) * self.scale


def test_deterministic_names_the_operation_that_is_not(tiny: Compose, tmp_path: Path) -> None:
    words = (f"lstm._target_={__name__}.Put", "test=false", "logger=none")
    with pytest.raises(UserError, match=r"^trainer\.deterministic=true: put_ has no deterministic form"):
        train(tiny(*words, "trainer.deterministic=true", f"output={tmp_path / 'one'}"))
    train(tiny(*words, f"output={tmp_path / 'two'}"))  # of the next job of a sweep it is not asked
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_deterministic_training_is_the_same_training(tiny: Compose, tmp_path: Path) -> None:
    for name in ("false", "true"):
        train(tiny(f"trainer.deterministic={name}", "test=false", "logger=none", f"output={tmp_path / name}"))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("false", "true"))
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-4, atol=1e-5, msg=key)
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_deterministic_form_of_the_loss_is_the_loss(smoothing: float) -> None:
    logits, labels = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randint(0, 3, (2, 4, 5))
    labels[0, :2] = 255
    loss = CrossEntropy(ignore_index=255, class_weights=[1, 2, 3], label_smoothing=smoothing).double()
    plain = loss(logits, labels)
    try:
        torch.use_deterministic_algorithms(True)
        torch.testing.assert_close(loss(logits, labels), plain, rtol=1e-13, atol=0)
    finally:
        torch.use_deterministic_algorithms(False)


class ClockNoise(pl.Callback):
    """What the check is there to find: weights that depend on when they were trained."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 2:
            with torch.no_grad():
                next(pl_module.network.parameters()).add_(1e-6 + 1e-12 * (time.perf_counter_ns() % 10**9))


class ClockPixels(albumentations.ImageOnlyTransform):  # type: ignore[misc]
    """Augments by the clock."""

    def apply(self, img: Any, **_: Any) -> Any:
        return img + np.uint8(time.perf_counter_ns() // 1000 % 256)


NOISE = f"+callbacks.noise._target_={__name__}.ClockNoise"
REPEAT = (*TINY, "data.splits={train:12,val:2,test:2}", "callbacks.inspection.images=0")


def here(words: list[str], folder: str) -> None:
    """A run in this process, from the words that a process of its own would be started with."""
    where, name = (word.partition("=")[2] for word in words)
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    with initialize_config_dir(where, version_base="1.3"):
        config = compose_config(name, overrides=[f"output='{folder}'"])
    GlobalHydra.instance().hydra = outer
    train(config)


def repeated(compose: Compose, folder: Path, *words: str) -> dict[str, Any]:
    return check_repeat(compose(*REPEAT, *words, name="check_repeat"), folder, here)


def test_the_same_twice_is_the_same(compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    effect = make_sweep(tmp_path / "study")
    write_report(effect, None)
    content = repeated(compose, tmp_path / "a b", "runs=3", f"effect='{effect}'")
    assert (content["identical"], content["passed"], content["runs"], content["steps"]) == (True, True, 3, 3)
    assert all(drift["compared"] > 0 == drift["differing"] for drift in content["drifts"])
    assert json.loads((tmp_path / "a b" / "repeat.json").read_text()) == content
    beside = content["effects"][0]
    assert (beside["metric"], round(beside["effect"], 6), beside["drift"]) == ("pixel accuracy", 2.0, 0.0)
    assert not any(one["drift_could_explain_it"] for one in content["effects"])
    assert "zigzag - none" in capsys.readouterr().out
    assert conclude(content) == "the same to the last bit"


def test_noise_from_the_clock_is_found(compose: Compose, tmp_path: Path) -> None:
    content = repeated(compose, tmp_path, NOISE)
    found = {drift["of"]: drift for drift in content["drifts"]}
    assert not content["passed"]
    assert found["data"]["differing"] == 0
    assert found["losses"]["where"] == "step 2"  # the first that saw the noise
    assert 0 < found["weights of the last step"]["largest"] < 0.1
    with pytest.raises(UserError, match=r"first in their losses \(step 2\); trainer\.deterministic=true names"):
        conclude(content)
    content = repeated(compose, tmp_path, NOISE, "tolerance=1")
    assert (content["passed"], content["identical"]) == (True, False)
    assert conclude(content) == "within tolerance, but not the same"


def test_an_augmentation_of_its_own_mind_is_found(compose: Compose, tmp_path: Path) -> None:
    word = f"augment={{clock:{{_target_:{__name__}.ClockPixels,p:1}}}}"
    content = repeated(compose, tmp_path, "augment=none", f"+{word}", "test=false")
    with pytest.raises(UserError, match=r"first in their data \(step 0\); an augmentation or reader"):
        conclude(content)


def test_differences_by_hand() -> None:
    apart, largest = differences(np.array([[1.0, 2.0, np.nan], [1.0, 2.5, np.nan], [1.0, 1.0, np.nan]]))
    assert (apart.tolist(), largest) == ([False, True, False], 1.5)
    assert differences(np.array([[0.0], [-0.0]]))[0].all()  # not the same bits
    assert differences(np.array([[1.0], [np.nan]]))[1] == np.inf
    labels = [{"a": lambda value=value: np.array([1, 2, 3, value], np.uint8)} for value in (4, 9)]
    drift = compare("predictions", labels)
    assert (drift.compared, drift.differing, drift.largest, drift.where) == (4, 1, 0.25, "a")
    assert compare("weights", [labels[0], {}]).largest == np.inf


def test_a_drift_explains_what_is_no_larger_than_two_of_it() -> None:
    assert not Beside("", "", 2.0, 3, 0.0).explained
    assert not Beside("", "", 2.0, 3, 0.9).explained
    assert Beside("", "", -2.0, 3, 1.1).explained
    assert not Beside("", "", 0.0, 3, 0.0).explained


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("runs=1",), "runs=1: give 2 or more"),
        (("ckpt=auto",), "ckpt=auto: check_repeat trains anew"),
        (("train=false",), "train=False: check_repeat trains anew"),
        (("effect=nowhere",), "effect=nowhere: nowhere is not there"),
        (("effect=pyproject.toml",), "is no ablation.json"),
        (("effect=segmentation",), r"run `python -m segmentation\.report segmentation` first"),
        (("effect=x", "test=false"), "nothing stands beside effect"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], said: str, compose: Compose, tmp_path: Path,
                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(ROOT)
    config = compose(*words, name="check_repeat")
    with pytest.raises(UserError, match=said):
        check_repeat(config, tmp_path, lambda *_: pytest.fail("trained"))


@pytest.mark.slow
def test_the_command_tells_by_its_exit_code(tmp_path: Path) -> None:
    for word, code, said in (("seed=0", 0, ""), (NOISE, 1, "error: the runs drift apart, first in their losses")):
        line = [
            sys.executable,
            "-m",
            "segmentation.check_repeat",
            *REPEAT,
            word,
            f"hydra.run.dir={tmp_path / str(code)}",
        ]
        done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ)
        assert (done.returncode, done.stderr.strip()[: len(said)]) == (code, said), done.stderr[-2000:]
        assert {path.name for path in (tmp_path / str(code)).iterdir()} >= {"0", "1", "repeat.json", "repeated.yaml"}
