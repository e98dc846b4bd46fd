"""Which checkpoint `ckpt=` finds."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from segmentation.checkpoints import find_checkpoint, load_weights
from segmentation.errors import UserError


def make_run(folder: Path, config: str, *, finished: bool = False, age: int = 0) -> Path:
    last = folder / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"x")
    os.utime(last, (1e9 - age, 1e9 - age))
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text(config)
    if finished:
        (folder / "model.safetensors").write_bytes(b"x")
    return last


def test_auto_takes_the_newest_unfinished_run_of_the_same_configuration(tmp_path: Path) -> None:
    config = "seed: 1\nckpt: null\n"
    make_run(tmp_path / "day" / "old", config, age=20)
    newest = make_run(tmp_path / "day" / "new", config, age=10)
    make_run(tmp_path / "day" / "other", "seed: 2\nckpt: null\n")
    make_run(tmp_path / "day" / "done", config, finished=True)
    own = tmp_path / "today" / "now"
    (own / ".hydra").mkdir(parents=True)
    (own / ".hydra" / "config.yaml").write_text("seed: 1\nckpt: auto\n")
    assert find_checkpoint("auto", own) == newest
    last = own / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.write_bytes(b"x")
    assert find_checkpoint("auto", own) == last


def test_auto_without_anything_starts_anew(tmp_path: Path) -> None:
    assert find_checkpoint("auto", tmp_path / "a" / "b") is None
    assert find_checkpoint(None, tmp_path) is None


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        find_checkpoint(str(tmp_path / "nothing.ckpt"), tmp_path)
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    with pytest.raises(UserError, match=r"text.ckpt: not a checkpoint"):
        load_weights(nn.Linear(1, 1), tmp_path / "text.ckpt")


def test_a_pickle_is_refused_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    torch.save({"state_dict": Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(UserError):
        load_weights(nn.Linear(1, 1), tmp_path / "trap.ckpt")
    assert not (tmp_path / "sprung").exists()
