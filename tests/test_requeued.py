"""Trainings that Slurm stops and starts again, several processes that stop together, and sweeps told to stop."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segmentation.checkpoints import LAST
from tests.conftest import TINY
from tests.forked import SMALL, run
from tests.same import assert_same
from tests.stand_ins import at

WORDS = (*SMALL, "trainer.max_epochs=3")
SCONTROL = """#!/bin/sh
echo "$@" >> {said}
"""


def test_slurms_signal_saves_asks_for_another_start_and_that_goes_on(tmp_path: Path) -> None:
    straight = tmp_path / "straight"
    assert run(*WORDS, f"hydra.run.dir={straight}", log=tmp_path / "log") == 0
    folder, log, said = tmp_path / "run", tmp_path / "log", tmp_path / "said"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scontrol").write_text(SCONTROL.format(said=said))
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    slurm = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "localhost",
             "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}  # fmt: skip
    how = at("training", 7, signal.SIGUSR1)
    how["environment"] |= slurm
    assert run(*WORDS, f"hydra.run.dir={folder}", log=log, **how) == 128 + signal.SIGUSR1, log.read_text()
    assert f"stopped by SIGUSR1 in epoch 1, after step 7; go on from {folder / LAST}" in log.read_text()
    assert said.read_text() == "requeue 17\n"
    assert list(folder.glob("hpc_ckpt*")) == []
    # The same command line, as Slurm has it; in a folder of the hour, it is found by its configuration.
    started_again = slurm | {"SLURM_RESTART_COUNT": "1"}
    assert run(*WORDS, f"hydra.run.dir={folder}", log=log, environment=started_again) == 0, log.read_text()
    assert_same(straight, folder)


def wait_for(file: Path, process: "subprocess.Popen[str]") -> None:
    while not file.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def start(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "segmentation.train", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_two_processes_stop_together_and_go_on(number: int, tmp_path: Path) -> None:
    two = (*WORDS, "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=20")
    process = start(*two, f"hydra.run.dir={tmp_path / 'run'}")
    wait_for(tmp_path / "run" / LAST, process)
    process.send_signal(number)
    said = process.communicate(timeout=120)[1]
    assert process.returncode in (128 + number, -number), said
    if number == signal.SIGTERM:
        assert said.count("stopped by SIGTERM in epoch ") == 1
    for name in ("run", "straight"):
        process = start(*two, "ckpt=auto", f"hydra.run.dir={tmp_path / name}")
        assert process.communicate(timeout=120)[1] is not None
        assert process.returncode == 0
    assert_same(tmp_path / "straight", tmp_path / "run", rounding=1e-6)


@pytest.mark.slow
def test_a_sweep_told_to_stop_saves_and_is_resumed(tmp_path: Path) -> None:
    """Also where its job is a program of its own, as those of several processes are."""
    words = ("-m", *WORDS, "seed=0,1", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu",
             "trainer.max_epochs=20", f"hydra.sweep.dir={tmp_path}")  # fmt: skip
    process = start(*words)
    wait_for(tmp_path / "0" / LAST, process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 143, said
    assert "stopped by SIGTERM in epoch " in said
    assert not (tmp_path / "1").exists()
    process = start(*words, "resume=true")
    process.communicate(timeout=240)
    assert process.returncode == 0
    for job in ("0", "1"):
        assert len(json.loads((tmp_path / job / "history.json").read_text())) == 20


@pytest.mark.slow
def test_submitits_signal_saves_and_its_next_start_goes_on(tmp_path: Path) -> None:
    words = (
        *TINY,
        "logger=none",
        "test=false",
        "trainer.max_epochs=30",
        "lstm=none",
        "data.splits={train:10,val:3,test:3}",
    )
    sweep = tmp_path / "sweep"
    process = start("-m", *words, "launcher=submitit", "hydra/launcher=submitit_local", f"hydra.sweep.dir={sweep}")
    wait_for(sweep / "0" / LAST, process)
    trainer = int((sweep / "0" / ".lock").read_text().split()[1])
    os.kill(trainer, signal.SIGUSR2)
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 0, said
    logs = "".join(path.read_text() for path in (sweep / ".submitit").rglob("*_log.err"))
    assert logs.count("stopped by SIGUSR2 in epoch ") == 1
    assert len(json.loads((sweep / "0" / "history.json").read_text())) == 30
    assert not (sweep / "0" / ".requeued").exists()
    straight = start(*words, f"hydra.run.dir={tmp_path / 'straight'}")
    straight.communicate(timeout=240)
    assert_same(tmp_path / "straight", sweep / "0")
