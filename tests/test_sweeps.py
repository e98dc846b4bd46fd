"""A sweep's ledger, and sweeps that fail, are killed, and go on."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segmentation.sweeps.ledger import Ledger, identity, is_finished
from tests.conftest import TINY

CONFIG = {"seed": 0, "output": "x", "ckpt": None, "resume": False, "data": {"root": "/a", "size": [1, 2]}, "lstm": {}}


def test_identity_is_of_the_configuration_not_of_its_places() -> None:
    same = {**CONFIG, "output": "y", "resume": True, "data": {"root": "/b", "num_workers": 3, "size": [1, 2]}}
    assert identity(CONFIG) == identity(same)
    for other in ({"seed": 1}, {"data": {"root": "/a", "size": [1, 3]}}, {"lstm": {"order": "snake"}}):
        assert identity(CONFIG) != identity(CONFIG | other)


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "sweep")
    assert ledger.read() == []
    ledger.write("planned", job="0", identity="a")
    ledger.write("planned", job="1", identity="b")
    with ledger.path.open("a") as file:
        file.write('{"event": "planned", "job"')
    assert ledger.folders() == {"a": "0", "b": "1"}


def test_a_job_has_finished_when_its_last_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert not is_finished(tmp_path, test=False)  # its description comes after it
    (tmp_path / "model.json").touch()
    assert is_finished(tmp_path, test=False)
    assert not is_finished(tmp_path, test=True)
    (tmp_path / "metrics.json").touch()
    assert is_finished(tmp_path, test=True)


def command(folder: Path, *arguments: str) -> list[str]:
    train = [sys.executable, "-m", "segmentation.train", "-m", f"hydra.sweep.dir={folder}"]
    return [*train, *TINY, *arguments]


def sweep(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *arguments), capture_output=True, text=True, check=False)


def written(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in sorted(folder.glob("*/metrics.json"))}


def test_a_failed_job_does_not_end_the_others_and_resuming_runs_it_alone(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    grid = ("optimizer.lr=0.01,-1,0.02", "logger=none")
    first = sweep(folder, *grid)
    assert first.returncode == 1
    assert list(written(folder)) == ["0", "2"]
    last = first.stderr.strip().splitlines()[-2:]
    assert last[0].startswith(f"failed: {folder}/1: ")
    assert "optimizer.lr=-1" in last[0]
    assert "give a number above 0" in last[0]
    assert last[1].startswith("error: 1 of 3 jobs failed; to run them again: python -m segmentation.train -m")
    assert last[1].endswith(f"hydra.sweep.dir={folder} resume=true")

    before = written(folder)
    again = sweep(folder, *grid)
    assert again.stderr.strip().splitlines()[-1].startswith(f"error: {folder}: holds a sweep already; add resume=true")
    assert written(folder) == before

    (folder / "ledger.jsonl").unlink()  # what has finished is known without it
    resumed = sweep(folder, "optimizer.lr=0.03,0.02,0.01", "logger=none", "resume=true")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert "2 of 3 jobs had finished, 1 to run" in resumed.stdout
    assert before.items() <= written(folder).items()
    assert list(written(folder)) == ["0", "2", "3"]
    assert json.loads((folder / "ledger.jsonl").read_text().splitlines()[-1])["event"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("finished", [0, 1, 2])
def test_a_killed_sweep_loses_nothing_and_runs_nothing_twice(finished: int, tmp_path: Path) -> None:
    folder, grid = tmp_path / "sweep", ("seed=0,1,2", "trainer.max_epochs=3")
    process = subprocess.Popen(command(folder, *grid), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(written(folder)) < finished or not (folder / str(finished) / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, "the sweep ended before it was killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = written(folder)
    resumed = sweep(folder, *grid, "resume=true")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert before.items() <= written(folder).items()
    assert list(written(folder)) == ["0", "1", "2"]
    for job in ("0", "1", "2"):
        assert len(json.loads((folder / job / "history.json").read_text())) == 3
