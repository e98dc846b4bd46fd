"""Long trainings and long sweeps hold no more at their end than after they warmed up."""

import gc
import os
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig
from torch import nn

from segmentation.sweeps.jobs import Job, run_batch
from segmentation.train import train
from tests.conftest import TINY, Compose
from tests.watch import grown, noted

ROOT = Path(__file__).parent.parent
MOST = 0.02  # growth of resident memory after warm-up
SMALL = ("data.batch_size=2", "callbacks.inspection.images=1")

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="what a process holds, Linux tells")


def watching(file: Path, *, count: bool) -> tuple[str, ...]:
    return tuple(
        f"+callbacks.watch.{word}" for word in ("_target_=tests.watch.Watch", f"file={file}", f"count={count}")
    )


class Hoarder(pl.Callback):
    """Keeps what it should let go: every batch, and a file an epoch."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.kept.append(batch["image"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.kept.append(open(os.devnull))  # noqa: SIM115, PTH123  # the leak itself


@pytest.mark.slow
@pytest.mark.parametrize("leaks", [False, True])
def test_epochs_keep_nothing(leaks: bool, tiny: Compose, tmp_path: Path) -> None:
    """With all that logs and saves; and a callback that does keep something is noticed."""
    words = (*SMALL, "data.splits={train:12,val:2,test:1}", "trainer.max_epochs=5", "test=false")
    hoard = (f"+callbacks.hoarder._target_={__name__}.Hoarder",) * leaks
    train(tiny(*words, *hoard, *watching(tmp_path / "held", count=True)))
    rows = noted(tmp_path / "held", "epoch")
    assert [row["step"] for row in rows] == [6, 12, 18, 24, 30]
    assert set(grown(rows, warm=2)) == ({"files", "tensors"} if leaks else set())


@pytest.mark.slow
def test_jobs_keep_nothing(tiny: Compose, tmp_path: Path) -> None:
    """Trainings one after the other in one process."""
    words = (*SMALL, "data.splits={train:2,val:1,test:1}", *watching(tmp_path / "held", count=True))
    for seed in range(3):
        train(tiny(*words, f"seed={seed}", f"output={tmp_path / str(seed)}"))
    assert grown(noted(tmp_path / "held", "test"), warm=1) == {}


class Failing:
    """A launcher whose job fails, as Hydra's own does: the error that it hands over holds what the job held."""

    def __init__(self) -> None:
        self.held: Any = None

    def launch(self, job_overrides: Any, initial_job_idx: int) -> list[JobReturn]:
        network = nn.Linear(2, 2)
        self.held = weakref.ref(network)
        try:
            raise MemoryError
        except MemoryError as error:
            return [
                JobReturn(cfg=DictConfig({}), hydra_cfg=DictConfig({}), status=JobStatus.FAILED, _return_value=error)
            ]


def test_a_sweep_keeps_neither_configurations_nor_networks(tmp_path: Path) -> None:
    launcher: Any = Failing()
    (outcome,) = run_batch(launcher, [Job([], {}, "", tmp_path)], 0)
    gc.collect()
    assert outcome.reason is not None
    assert outcome.reason.startswith("memory:")
    assert outcome.result is not None
    assert outcome.result.cfg is outcome.result.hydra_cfg is None
    assert launcher.held() is None


def measured(file: Path, when: str, warm: int, start: float) -> tuple[float, list[dict[str, Any]], str]:
    """Growth of resident memory after the first `warm` lines, all lines, and both in words."""
    rows = noted(file, when)
    before, after = (row["resident"] for row in (rows[warm], max(rows[warm:], key=lambda row: row["resident"])))
    files = f"open files {rows[warm]['files']} to {rows[-1]['files']}"
    words = f"resident {before / 2**20:.1f} to {after / 2**20:.1f} MiB ({after / before - 1:+.2%}), {files}"
    return after / before - 1, rows, f"{words}, {time.monotonic() - start:.0f} s"


def command(*words: str) -> None:
    line = [sys.executable, "-m", "segmentation.train", *words]
    subprocess.run(line, check=True, capture_output=True, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_thousand_steps(tmp_path: Path, record_property: Any) -> None:
    start, held = time.monotonic(), tmp_path / "held"
    words = (*TINY, *SMALL, "data.splits={train:80,val:3,test:1}", "trainer.max_epochs=50")
    command(*words, *watching(held, count=False), f"hydra.run.dir={tmp_path / 'run'}")
    growth, rows, figures = measured(held, "epoch", 10, start)
    record_property("2,000 steps, validation, checkpoints and images every 40", figures)
    assert rows[-1]["step"] == 2000
    assert len(list((tmp_path / "run" / "tensorboard").rglob("events*"))) > 0
    assert growth <= MOST
    assert grown(rows, warm=10) == {}


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_two_hundred_jobs_in_one_process(tmp_path: Path, record_property: Any) -> None:
    start, held = time.monotonic(), tmp_path / "held"
    words = (
        *TINY,
        *SMALL,
        "data.splits={train:2,val:1,test:1}",
        "seed=range(200)",
        f"hydra.sweep.dir={tmp_path}/sweep",
    )
    command("-m", *words, *watching(held, count=False))
    growth, rows, figures = measured(held, "test", 40, start)
    record_property("200 jobs of a step in one process", figures)
    assert len(rows) == len(list((tmp_path / "sweep").glob("*/metrics.json"))) == 200
    assert growth <= MOST
    assert grown(rows, warm=40) == {}
