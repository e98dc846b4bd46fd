"""Which checkpoint `ckpt=` finds."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from segmentation.checkpoints import LAST, find_checkpoint, load_weights, resume_point
from segmentation.errors import UserError
from segmentation.slurm import mark
from segmentation.sweeps.ledger import Ledger, identity


def make_run(folder: Path, config: str, *, finished: bool = False, age: int = 0) -> Path:
    last = folder / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"x")
    os.utime(last, (1e9 - age, 1e9 - age))
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text(config)
    if finished:
        (folder / "model.safetensors").write_bytes(b"x")
        (folder / "metrics.json").write_text("{}")
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
    assert find_checkpoint("auto", own, train=True) == (tmp_path / "day" / "new", newest)
    last = own / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.write_bytes(b"x")
    assert find_checkpoint("auto", own, train=True) == (own, last)


def test_a_job_that_slurm_starts_again_goes_on_without_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = make_run(tmp_path / "day" / "old", "seed: 1\n")
    (tmp_path / "day" / "old" / "model.safetensors").write_bytes(b"x")  # stopped in the test
    own = tmp_path / "today" / "now"
    (own / ".hydra").mkdir(parents=True)
    (own / ".hydra" / "config.yaml").write_text("seed: 1\n")
    assert find_checkpoint(None, own, train=True) == (own, None)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert find_checkpoint(None, own, train=True) == (tmp_path / "day" / "old", last)
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    mark(tmp_path / "day" / "old")  # as for submitit's jobs, whose folder stays
    assert find_checkpoint(None, tmp_path / "day" / "old", train=True) == (tmp_path / "day" / "old", last)


def test_auto_without_anything_starts_anew(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert find_checkpoint("auto", folder, train=True) == (folder, None)
    assert find_checkpoint(None, tmp_path, train=True) == (tmp_path, None)


def test_to_test_only_takes_the_best_and_nothing_trained_is_a_mistake(tmp_path: Path) -> None:
    last = make_run(tmp_path / "run", "seed: 1\n", finished=True)
    best = last.with_name("best.ckpt")
    best.write_bytes(b"x")
    for ckpt in (None, "auto"):
        assert find_checkpoint(ckpt, tmp_path / "run", train=False) == (tmp_path / "run", best)
        with pytest.raises(UserError, match="holds nothing trained"):
            find_checkpoint(ckpt, tmp_path / "empty", train=False)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        find_checkpoint(str(tmp_path / "nothing.ckpt"), tmp_path, train=True)
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    with pytest.raises(UserError, match=r"text.ckpt: not a checkpoint"):
        load_weights(nn.Linear(1, 1), tmp_path / "text.ckpt")
    torch.save({"state_dict": nn.Linear(1, 1).state_dict()}, tmp_path / "best.ckpt")
    with pytest.raises(UserError, match=r"best.ckpt: holds weights only; go on from last.ckpt"):
        resume_point(nn.Linear(1, 1), {}, tmp_path / "best.ckpt", tmp_path)
    for other in (nn.Linear(2, 1), nn.Linear(1, 1, bias=False)):
        with pytest.raises(UserError, match=r"best.ckpt: of another network"):
            load_weights(other, tmp_path / "best.ckpt")


def test_a_pickle_is_refused_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    torch.save({"state_dict": Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(UserError):
        load_weights(nn.Linear(1, 1), tmp_path / "trap.ckpt")
    assert not (tmp_path / "sprung").exists()


def test_a_configuration_torn_by_a_kill_blocks_no_other_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Hydra writes it in place."""
    for name in ("a", "b"):
        run = tmp_path / "day" / name
        (run / ".hydra").mkdir(parents=True)
        (run / LAST).parent.mkdir()
        (run / LAST).touch()
        (run / ".hydra" / "config.yaml").write_text("" if name == "a" else "{seed: 0}")
    own = tmp_path / "day" / "c"
    (own / ".hydra").mkdir(parents=True)
    (own / ".hydra" / "config.yaml").write_text("{seed: 0}")
    assert find_checkpoint("auto", own, train=True) == (tmp_path / "day" / "b", tmp_path / "day" / "b" / LAST)
    assert str(tmp_path / "day" / "a") in caplog.text
    (tmp_path / "day" / "torn").mkdir()
    assert Ledger(tmp_path / "day").folders() == {identity({"seed": 0}): "b"}
