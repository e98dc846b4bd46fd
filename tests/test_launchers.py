"""A sweep's jobs side by side: local processes, submitit's local executor, a local Ray; and launchers that fail."""

import errno
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import MissingConfigException
from hydra.plugins.launcher import Launcher

from segmentation.mistakes import explain
from segmentation.sweeps.jobs import Job, run_jobs
from segmentation.sweeps.ledger import Ledger
from tests.conftest import TINY

LAUNCHERS = [
    pytest.param(("launcher=joblib",), marks=pytest.mark.slow),
    pytest.param(("launcher=submitit", "hydra/launcher=submitit_local"), marks=pytest.mark.slow),
    pytest.param(("launcher=ray",), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda words: words[0])
def test_jobs_run_the_failed_one_is_told_and_resuming_runs_it_alone(launcher: Sequence[str], tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    own = [*launcher, *TINY, "logger=none", "callbacks.inspection.images=1", f"hydra.sweep.dir={folder}"]

    def sweep(*more: str) -> "subprocess.CompletedProcess[str]":
        words = [sys.executable, "-m", "segmentation.train", "-m", *own, *more]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    first = sweep("optimizer.lr=0.01,-1")
    assert first.returncode == 1
    failed, error = [line for line in first.stderr.splitlines() if line.startswith(("failed:", "error:"))]
    assert failed.startswith(f"failed: {folder}/1: ")
    assert "give a number above 0" in failed
    assert error.startswith("error: 1 of 2 jobs failed")
    assert [path.parent.name for path in folder.glob("*/metrics.json")] == ["0"]
    assert (folder / "0" / ".hydra" / "config.yaml").is_file()
    resumed = sweep("optimizer.lr=0.01,0.02", "resume=true")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert "1 of 2 jobs had finished, 1 to run" in resumed.stdout
    assert sorted(path.parent.name for path in folder.glob("*/metrics.json")) == ["0", "2"]


class Dying(Launcher):
    """Finishes job 0, loses its processes over job 1, and so does not come to job 2."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def setup(self, **_: Any) -> None: ...

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        results = []
        for words in job_overrides:
            number = words[-1].removeprefix("hydra.sweep.subdir=")
            if number == "1":
                raise RuntimeError("a worker was killed")
            assert not (self.folder / number).exists(), "run twice"
            (self.folder / number).mkdir()
            (self.folder / number / "metrics.json").touch()
            results.append(JobReturn(status=JobStatus.COMPLETED))
        return results


def test_a_lost_process_fails_its_job_alone(tmp_path: Path) -> None:
    jobs = [Job([f"seed={number}"], {"test": True}, str(number), tmp_path / str(number)) for number in (0, 1, 2)]
    outcomes = list(run_jobs(Dying(tmp_path), jobs, 3, Ledger(tmp_path)))
    assert [outcome.reason is None for outcome in outcomes] == [True, False, True]
    assert "a worker was killed" in (outcomes[1].reason or "")
    events = [json.loads(line)["event"] for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert events == [*["planned"] * 3, "finished", "failed", "finished"]


class FullLedger(Ledger):
    """On a disk that is full once the sweep has begun."""

    def write(self, event: str, **facts: Any) -> None:
        if event != "planned":
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(event, **facts)


def test_a_ledger_that_cannot_be_written_ends_no_sweep(tmp_path: Path) -> None:
    jobs = [Job([f"seed={number}"], {"test": True}, str(number), tmp_path / str(number)) for number in (0, 1, 2)]
    outcomes = list(run_jobs(Dying(tmp_path), jobs, 1, FullLedger(tmp_path)))
    assert [outcome.reason is None for outcome in outcomes] == [True, False, True]


@pytest.mark.parametrize(
    ("choice", "packages"),
    [("joblib", "hydra-joblib-launcher"), ("submitit_slurm", "hydra-submitit-launcher"), ("ray", "hydra-ray-launcher")],
)
def test_a_missing_plugin_is_named_with_what_installs_it(choice: str, packages: str) -> None:
    error = MissingConfigException("x", f"hydra/launcher/{choice}", ["basic"])
    line = explain(error, "train") or ""
    assert line.startswith(f"launcher={choice.partition('_')[0]}: its Hydra plugin is not installed; pip install ")
    assert packages in line
