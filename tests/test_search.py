"""A search by Optuna: ranges as Hydra writes them, trials that survive a kill, and hopeless ones that end early."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from segmentation.errors import UserError
from segmentation.sweeps.search import as_word, find_space, score
from tests.conftest import TINY


def parse(*words: str) -> Any:
    return OverridesParser.create().parse_overrides(list(words))


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("a=interval(0.1,2)", FloatDistribution(0.1, 2.0)),
        ("a=tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=range(1,5)", IntDistribution(1, 4)),
        ("a=range(2,9,2)", IntDistribution(2, 8, step=2)),
        ("a=none,zigzag", CategoricalDistribution(["none", "zigzag"])),
        ("a=[1,2],[3,4]", CategoricalDistribution(["[1,2]", "[3,4]"])),
    ],
)
def test_ranges_are_hydras(word: str, wanted: Any) -> None:
    assert find_space(parse("b=1", word)) == {"a": wanted}


def test_nothing_to_search_is_a_mistake() -> None:
    with pytest.raises(UserError, match=r"give a range, such as 'optimizer\.lr=interval"):
        find_space(parse("seed=1"))


def test_a_value_survives_the_override_grammar() -> None:
    value = {"a": "sqlite:////x y/z.db", "b": [1, 2.5, None, True], "c": {"d": 'it\'s "so"', "e": "${f}"}}
    (override,) = parse(f"+key={as_word(value)}")
    assert override.value() == value


def test_the_score_is_the_best_epochs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no val/mean_iou"):
        score(tmp_path, "val/mean_iou")
    rows = [{"val/mean_iou": 0.3, "val/loss": 1.0}, {"val/mean_iou": 0.2, "val/loss": 0.7}, {}]
    (tmp_path / "history.json").write_text(json.dumps(rows))
    assert score(tmp_path, "val/mean_iou") == 0.3
    assert score(tmp_path, "val/loss") == 0.7


def command(folder: Path, *more: str) -> list[str]:
    own = [*TINY, "logger=none", "sweeper=optuna", f"hydra.sweep.dir={folder}"]
    train = [sys.executable, "-m", "segmentation.train", "-m"]
    return [*train, *own, "optimizer.lr=tag(log,interval(1e-4,1e-2))", "lstm=none,zigzag", *more]


def run(folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(folder, *more), capture_output=True, text=True, check=False)


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/study.db").trials


@pytest.mark.slow
def test_a_search_goes_on_where_it_ended_and_prunes(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    first = run(folder, "hydra.sweeper.trials=2", "trainer.max_epochs=3")
    assert first.returncode == 0, first.stderr[-2000:]
    done = trials(folder)
    assert [trial.state for trial in done] == [TrialState.COMPLETE] * 2
    assert [trial.value for trial in done] == [score(folder / name, "val/mean_iou") for name in ("0", "1")]
    assert len(done[0].intermediate_values) == 3
    assert not (folder / "0" / "metrics.json").exists()  # never looks at the test images
    best = json.loads((folder / "best.json").read_text())
    assert best["value"] == max(trial.value or 0 for trial in done)
    assert best["folder"] == str(folder / str(best["trial"]))

    again = run(folder, "hydra.sweeper.trials=2")
    assert again.stderr.strip().splitlines()[-1].startswith(f"error: {folder}: holds a sweep already; add resume=true")
    other = run(folder, "hydra.sweeper.trials=3", "resume=true", "trainer.max_epochs=3", "optimizer.weight_decay=0.5")
    assert "its study 'search' searches with another everything else" in other.stderr
    wider = run(folder, "hydra.sweeper.trials=3", "resume=true", "trainer.max_epochs=3", "lstm=none,snake")
    assert "its study 'search' searches with another lstm" in wider.stderr
    # A pruner for which every trial is hopeless.
    pruner = "hydra.sweeper.pruner"
    hopeless = (f"{pruner}._target_=optuna.pruners.ThresholdPruner", f"+{pruner}.lower=2", f"{pruner}.n_warmup_steps=0")
    resumed = run(folder, "hydra.sweeper.trials=3", "resume=true", "trainer.max_epochs=3", *hopeless)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert "2 of 3 trials had finished, 1 to run" in resumed.stdout
    after = trials(folder)
    assert [trial.state for trial in after] == [*[TrialState.COMPLETE] * 2, TrialState.PRUNED]
    assert len({trial.params["optimizer.lr"] for trial in after}) == 3  # the sampler did not begin anew
    assert len(json.loads((folder / "2" / "history.json").read_text())) == 1


def test_a_misspelt_range_ends_the_search_before_it_begins(tmp_path: Path) -> None:
    failed = run(tmp_path / "search", "optimizer.rate=interval(0.1,0.2)")
    assert failed.stderr.strip().splitlines()[-1].startswith("error: optimizer.rate: no such key; did you mean")
    assert not (tmp_path / "search" / "study.db").exists()


@pytest.mark.slow
def test_a_killed_search_loses_no_trial(tmp_path: Path) -> None:
    folder, grid = tmp_path / "search", ("hydra.sweeper.trials=3", "trainer.max_epochs=4")
    process = subprocess.Popen(
        command(folder, *grid), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not (folder / "1" / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, "the search ended before it was killed"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    params = [trial.params for trial in trials(folder)]
    resumed = run(folder, *grid, "resume=true")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    after = trials(folder)
    assert [trial.state for trial in after] == [TrialState.COMPLETE] * 3
    assert [trial.params for trial in after[: len(params)]] == params
    assert [len(json.loads((folder / name / "history.json").read_text())) for name in ("0", "1", "2")] == [4, 4, 4]
