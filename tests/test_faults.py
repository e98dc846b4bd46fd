"""What breaks around a training ends it in one line that says what to do, and costs nothing that was saved."""

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segmentation.checkpoints import LAST
from segmentation.faults import describe
from tests.conftest import Record
from tests.forked import SMALL, run
from tests.stand_ins import (
    FOLDER,
    fail_first_job,
    fill_disk,
    fill_gpu,
    fill_memory,
    kill_worker,
    limit_files,
    lock_checkpoints,
    raise_memory,
    unmount_data,
)

WORDS = (*SMALL, "trainer.max_epochs=2")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, where that can be had."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no disk of its own can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--recursive", "--lazy", str(folder)], check=True)


def images(root: Path) -> tuple[str, ...]:
    """A data set of files, and the words that train on it without a cache."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for index in range(count):
            for kind, high, shape in (("images", 255, (32, 48, 3)), ("masks", 2, (32, 48))):
                path = root / split / kind / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, high, shape, dtype=np.uint8)).save(path)
    kept = [word for word in WORDS if not word.startswith("data.splits")]
    return (*kept, "data=folder", f"data.root={root}", "data.classes=[a,b]", "data.cache=off")


def fails(*words: str, log: Path, folder: Path, fault: Callable[[], None] | None, place: Path | None = None) -> str:
    """Train until a fault ends it in one line, and return that line; what was saved before must be whole."""
    code = run(*words, f"hydra.run.dir={folder}", log=log, prepare=fault, environment={FOLDER: str(place or folder)})
    said = log.read_text()
    assert code == 1, said
    assert "Traceback" not in said
    line = said.strip().splitlines()[-1]
    assert line.startswith("error: ")
    if fault is not None:
        assert line.endswith(f"; then go on from {folder / LAST} by ckpt=auto hydra.run.dir={folder}")
        state = torch.load(folder / LAST, weights_only=True)
        assert state["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 1
        assert list(folder.rglob("*.partial")) == []
    return line


FAULTS: dict[str, tuple[Callable[[], None], tuple[str, ...], str]] = {
    "file too large": (
        limit_files,
        (),
        ".ckpt: File too large; have the limit on the size of files raised",
    ),
    "host memory, Python's": (raise_memory, (), "memory: the machine has too little left; lower data.batch_size"),
    "host memory, torch's": (fill_memory, (), "too little left for 4194304.0 GiB more; lower data.batch_size"),
    "GPU's memory": (fill_gpu, (), "memory: CUDA out of memory. Tried to allocate 2.00 GiB; lower data.batch_size"),
    "worker killed": (kill_worker, ("data.num_workers=2",), "data.num_workers: a process that loads data was killed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_the_training_goes_on(fault: str, tmp_path: Path, record: Record) -> None:
    prepare, words, said = FAULTS[fault]
    folder, log = tmp_path / "run", tmp_path / "log"
    assert said in fails(*WORDS, *words, folder=folder, log=log, fault=prepare)
    if prepare is limit_files:
        assert run(*WORDS, "ckpt=auto", f"hydra.run.dir={folder}", log=log) == 0, log.read_text()
        assert len(json.loads((folder / "history.json").read_text())) == 2
    record(fault)


@pytest.mark.parametrize("logger", ["none", pytest.param("tensorboard", marks=pytest.mark.slow)])
def test_a_full_disk(logger: str, disk: Path, tmp_path: Path, record: Record) -> None:
    folder, log, words = disk / "run", tmp_path / "log", (*WORDS, f"logger={logger}")
    assert "No space left on device; free some space there" in fails(
        *words, folder=folder, log=log, fault=fill_disk, place=disk
    )
    (disk / "filler").unlink()
    assert run(*words, "ckpt=auto", f"hydra.run.dir={folder}", log=log) == 0, log.read_text()
    assert len(json.loads((folder / "history.json").read_text())) == 2
    record(f"full disk, logger={logger}")


def test_a_folder_that_becomes_read_only(disk: Path, tmp_path: Path, record: Record) -> None:
    line = fails(*WORDS, folder=disk / "run", log=tmp_path / "log", fault=lock_checkpoints, place=disk)
    assert "Read-only file system; mount it for writing, or choose another folder" in line
    record("folder becomes read-only")


def test_a_disk_that_is_read_only_from_the_start(disk: Path, tmp_path: Path, record: Record) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    line = fails(*WORDS, folder=disk / "run", log=tmp_path / "log", fault=None)
    assert line == f"error: {disk / 'run'}: Read-only file system; mount it for writing, or choose another folder"
    record("read-only from the start")


def test_a_folder_below_a_file(tmp_path: Path, record: Record) -> None:
    (tmp_path / "file").touch()
    line = fails(*WORDS, folder=tmp_path / "file" / "run", log=tmp_path / "log", fault=None)
    assert "Not a directory; a file stands where a folder should be" in line
    record("folder below a file")


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_data_that_vanish(workers: int, tmp_path: Path, record: Record) -> None:
    data = tmp_path / "data"
    words = (*images(data), f"data.num_workers={workers}")
    line = fails(*words, folder=tmp_path / "run", log=tmp_path / "log", fault=unmount_data, place=data)
    assert f"error: {data}/" in line
    assert "neither the file nor its folder is there; see the path, and that its drive is mounted" in line
    record(f"data drive vanishes, {workers} workers")


def test_a_sweep_goes_on_with_its_next_job_and_the_memory_of_the_last(tmp_path: Path, record: Record) -> None:
    sweep, log = tmp_path / "sweep", tmp_path / "log"
    words = ("-m", *SMALL, "seed=0,1", f"hydra.sweep.dir={sweep}")
    code = run(*words, log=log, prepare=fail_first_job)
    said = log.read_text()
    assert code == 1
    assert "Traceback" not in said
    assert f"failed: {sweep}/0: " in said
    assert "memory: CUDA out of memory. Tried to allocate 2.00 GiB; lower data.batch_size" in said
    assert [path.parent.name for path in sweep.glob("*/model.json")] == ["1"], said
    record("sweep after a fault")


@pytest.mark.slow
def test_a_sweep_on_a_full_disk_comes_to_its_end_and_is_resumed(disk: Path, tmp_path: Path, record: Record) -> None:
    sweep, log = disk / "sweep", tmp_path / "log"
    words = ("-m", *WORDS, "seed=0,1,2", f"hydra.sweep.dir={sweep}")
    code = run(*words, log=log, prepare=fill_disk, environment={FOLDER: str(disk)})
    said = log.read_text()
    assert code == 1
    assert "Traceback" not in said
    failed = [line for line in said.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 3, said
    assert all("No space left on device; free some space" in line for line in failed), failed
    (disk / "filler").unlink()
    assert run(*words, "resume=true", log=log) == 0, log.read_text()
    assert len(list(sweep.glob("*/model.json"))) == 3
    record("sweep on a full disk")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE])
def test_errors_of_disks_name_the_file_and_a_cure(number: int) -> None:
    line = describe(OSError(number, os.strerror(number), "/a/b")) or ""
    assert line.startswith(f"/a/b: {os.strerror(number)}; ")
    assert "\n" not in line
    assert describe(OSError(errno.EPIPE, "of the program itself")) is None
