"""A training goes on as it began, in its own folder, whatever is asked of it and whoever wrote the checkpoint."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from segmentation.checkpoints import LAST
from segmentation.errors import UserError
from segmentation.train import train
from segmentation.workers import say_nothing_of_hanging_up
from tests.conftest import TINY, Compose
from tests.forked import SMALL, run
from tests.stand_ins import GROUP, at

WORDS = (*SMALL, "trainer.max_epochs=3")


def interrupted(folder: Path, *words: str, **environment: str) -> str:
    """Stop a training in its second epoch; what it said."""
    log, how = folder.parent / "log", at("training", 7, signal.SIGTERM)
    how["environment"] |= environment
    assert run(*WORDS, *words, f"hydra.run.dir={folder}", log=log, **how) == 128 + signal.SIGTERM, log.read_text()
    return log.read_text()


def go_on(folder: Path, *words: str) -> tuple[int, str]:
    log = folder.parent / "again"
    log.unlink(missing_ok=True)
    code = run(*WORDS, *words, "ckpt=auto", f"hydra.run.dir={folder}", log=log)
    return code, log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_stops_a_training_as_one_to_the_first(number: int, tmp_path: Path) -> None:
    log, how = tmp_path / "log", at("training", 7, number)
    how["environment"] |= {GROUP: "1"}
    folder = tmp_path / "run"
    code = run(*WORDS, "data.num_workers=2", f"hydra.run.dir={folder}", log=log, **how)
    said = log.read_text()
    assert code == 128 + number, said
    assert f"stopped by {signal.Signals(number).name} in epoch 1, after step 7; go on from {folder / LAST}" in said
    assert "Traceback" not in said
    assert said.count("stopping after this batch") == (number == signal.SIGINT)  # once, and not by every worker


def test_a_training_that_stops_ends_the_workers_that_wait_for_more(tmp_path: Path) -> None:
    """Those of the training, which still has them when it is told to stop in a validation."""
    log = tmp_path / "log"
    how = at("validation", 1, signal.SIGINT)
    assert run(*WORDS, "data.num_workers=2", f"hydra.run.dir={tmp_path / 'run'}", log=log, **how) == 130, (
        log.read_text()
    )
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("error", "said"), [(EOFError(), ""), (ConnectionResetError(), ""), (ValueError(3), "ValueError: 3")]
)
def test_a_worker_says_nothing_of_a_training_that_hangs_up(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say_nothing_of_hanging_up(type(error), error, None)
    assert capsys.readouterr().err.strip() == said


def test_other_settings_are_refused_and_the_runs_files_stay_true(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    interrupted(folder)
    before = {file.name: file.read_text() for file in (folder / ".hydra").iterdir()}
    changes = {
        "optimizer.lr=0.5": "optimizer.lr=0.5:",
        "seed=7": "seed=7:",
        "loss=dice": "loss.",
        "augment=none": "augment",
    }
    for change, word in changes.items():
        code, said = go_on(folder, change)
        assert code == 1
        assert said.startswith(f"error: {word}"), said
        assert f"{folder / LAST} was trained with" in said
        assert len(said.splitlines()) == 1
        assert {file.name: file.read_text() for file in (folder / ".hydra").iterdir()} == before
    code, said = go_on(folder, "data.num_workers=1", "trainer.gradient_clip_val=5", "callbacks=[ema]")
    assert code == 0, said


@pytest.mark.parametrize("scheme", ["local://{}", "{}", "file://{}", "memory://{}"])
def test_a_strangers_checkpoint_removes_nothing(scheme: str, tmp_path: Path) -> None:
    """Lightning removes what the state of its callback names, a folder with all that is in it."""
    folder, mine = tmp_path / "run", tmp_path / "mine"
    interrupted(folder)
    mine.mkdir()
    (mine / "thesis.ckpt").write_text("years of work")
    content: dict[str, Any] = torch.load(folder / LAST, weights_only=True)
    states = [state for key, state in content["callbacks"].items() if key.startswith("ModelCheckpoint")]
    assert len(states) == 2
    for target in (mine, mine / "thesis.ckpt", folder / "checkpoints" / ".."):
        place = scheme.format(target)
        for state in states:
            state |= {"best_model_path": place, "kth_best_model_path": place, "last_model_path": place}
            state["best_k_models"] = {place: torch.tensor(0.1)}
        torch.save(content, folder / LAST)
        code, said = go_on(folder)
        assert code == 0, said
        assert (mine / "thesis.ckpt").read_text() == "years of work"
        assert (folder / ".hydra" / "config.yaml").is_file()
        assert (folder / LAST).is_file()


def spoil(content: Any, path: str, value: Any) -> None:
    *parents, last = path.split("/")
    for key in parents:
        content = content[next(name for name in content if name.startswith(key))]
    if value is REMOVED:
        del content[last]
    else:
        content[next((name for name in content if name.startswith(last)), last)] = value


REMOVED = object()
MALFORMED = {
    "loops": REMOVED, "loops/fit_loop": 5, "loops/fit_loop/epoch_progress/current/ready": "x",
    "loops/fit_loop/epoch_loop.batch_progress/current/ready": -3, "state_dict": 5, "state_dict/network": 5,
    "pytorch-lightning_version": REMOVED, "callbacks": 5, "callbacks/History": 5, "callbacks/History/rows": 5,
    "optimizer_states": [], "lr_schedulers": [], "optimizer_states/": {},
}  # fmt: skip


def test_what_no_training_leaves_is_refused_in_a_line(tmp_path: Path, tiny: Compose) -> None:
    folder = tmp_path / "run"
    interrupted(folder)
    for path, value in MALFORMED.items():
        content: dict[str, Any] = torch.load(folder / LAST, weights_only=True)
        if path == "optimizer_states/":
            content["optimizer_states"][0]["param_groups"].pop()
        else:
            spoil(content, path, value)
        torch.save(content, tmp_path / "spoilt.ckpt")
        config = tiny(*WORDS[len(TINY) :], f"ckpt={tmp_path / 'spoilt.ckpt'}", f"output={tmp_path / 'other'}")
        with pytest.raises(UserError) as caught:
            train(config)
        assert str(caught.value).startswith(str(tmp_path / "spoilt.ckpt")), (path, caught.value)
        assert "\n" not in str(caught.value)
