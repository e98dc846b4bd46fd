"""Trainings that are killed or told to stop at any moment end, once they go on, as if nothing had happened."""

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from segmentation.checkpoints import BEST, LAST
from tests.conftest import Record
from tests.forked import SMALL, begin, run
from tests.same import assert_same
from tests.stand_ins import at

Straight = Callable[[str], Path]
# Together they have whatever a training remembers: averages, sums of gradients, schedules, patience.
FULL = (*SMALL, "callbacks=[ema,early_stopping]", "callbacks.ema.decay=0.8", "data.batch_size=4",
        "trainer.accumulate_grad_batches=2", "scheduler=one_cycle", "trainer.max_epochs=3")  # fmt: skip
KINDS: dict[str, tuple[str, ...]] = {
    "everything": FULL,
    "workers": (*SMALL, "data.num_workers=2", "trainer.max_epochs=3", "scheduler=cosine"),
    "sgd": (*SMALL, "optimizer=sgd", "callbacks=freeze", "callbacks.freeze.epochs=1",
            "callbacks.freeze.parts=[backbone]", "trainer.max_epochs=3"),
    # Nothing is learnt, so that it stops after the second epoch of three.
    "patience": (*SMALL, "callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optimizer.lr=1e-30",
                 "trainer.max_epochs=3"),
    "loss": (*SMALL, "monitor=train/loss", "trainer.max_epochs=3", "trainer.precision=bf16"),
}  # fmt: skip
# Where one is killed; anywhere is after a random time.
PLACES = ("anywhere", "write", "validation", "content", "anywhere", "rename", "training", "anywhere", "validation",
          "write", "content", "anywhere")  # fmt: skip


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    """`straight(kind)`: the folder of a training of this kind that nothing interrupted."""
    done: dict[str, Path] = {}

    def _straight(kind: str) -> Path:
        if kind not in done:
            done[kind] = tmp_path_factory.mktemp("straight") / "run"
            log = done[kind].parent / "log"
            assert run(*KINDS[kind], f"hydra.run.dir={done[kind]}", log=log) == 0, log.read_text()
        return done[kind]

    return _straight


def go_on(kind: str, folder: Path) -> str:
    """Let a training go on to its end; what it said."""
    log = folder.parent / "log"
    assert run(*KINDS[kind], "ckpt=auto", f"hydra.run.dir={folder}", log=log) == 0, log.read_text()
    return log.read_text()


def kill(kind: str, folder: Path, place: str, times: int = 1, *, seconds: float = 0.0) -> bool:
    """Start a training, or let it go on, and kill it at a place or after a while; whether it was killed, not ended."""
    words, log = (*KINDS[kind], "ckpt=auto", f"hydra.run.dir={folder}"), folder.parent / "log"
    if place != "anywhere":
        return run(*words, log=log, **at(place, times, signal.SIGKILL)) == -signal.SIGKILL
    process = begin(*words, log=log)
    time.sleep(seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def stop(kind: str, folder: Path, place: str, times: int, number: int) -> str:
    """Start a training, or let it go on, and tell it to stop when it has come to a place; what it said."""
    log = folder.parent / "log"
    log.unlink(missing_ok=True)
    code = run(*KINDS[kind], "ckpt=auto", f"hydra.run.dir={folder}", log=log, **at(place, times, number))
    said = log.read_text()
    assert code == 128 + number, said
    assert f"; go on from {folder / LAST} by ckpt=auto hydra.run.dir={folder}\n" in said
    assert "Traceback" not in said
    return said


def test_killed_and_told_to_stop_it_ends_with_the_same_weights(straight: Straight, tmp_path: Path) -> None:
    folder, kind = tmp_path / "run", "everything"
    assert "stopped by SIGTERM in epoch 0, after step 1;" in stop(kind, folder, "training", 2, signal.SIGTERM)
    # Halfway through a step of the optimizer it waits for the other half.
    assert "stopped by SIGINT in epoch 1, after step 4;" in stop(kind, folder, "training", 4, signal.SIGINT)
    assert kill(kind, folder, "content")
    assert len(list(folder.rglob("*.partial"))) == 1
    assert "stopped by SIGTERM in epoch 1, after step 6;" in stop(kind, folder, "validation", 2, signal.SIGTERM)
    assert kill(kind, folder, "validation")
    kill(kind, folder, "anywhere", seconds=1.5)
    go_on(kind, folder)
    assert_same(straight(kind), folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random(kind: str, straight: Straight, tmp_path: Path, record: Record) -> None:
    folder, draw, begun, kills = tmp_path / "run", random.Random(kind), time.monotonic(), 0
    for place in PLACES:
        if kill(kind, folder, place, draw.randint(1, 5), seconds=draw.uniform(0.2, 2.0)):
            record(f"kill -9, {place}")
            kills += 1
        if (folder / "model.json").exists():  # it came to its end: another one
            assert_same(straight(kind), folder)
            folder = folder.with_name(f"{folder.name}_")
    go_on(kind, folder)
    assert_same(straight(kind), folder)
    assert kills >= 6  # thirty over all kinds
    record("kill -9 and resumed", time.monotonic() - begun)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"patience"}))
def test_told_to_stop_at_every_batch(kind: str, straight: Straight, tmp_path: Path, record: Record) -> None:
    begun = time.monotonic()
    for place, steps in (("training", (1, 2, 3, 4, 5, 8, 10, 15)), ("validation", (1, 3, 5))):
        for times in steps:
            folder = tmp_path / f"{place}{times}" / "run"
            folder.parent.mkdir()
            stop(kind, folder, place, times, signal.SIGINT if times % 2 else signal.SIGTERM)
            go_on(kind, folder)
            assert_same(straight(kind), folder)
            record(f"{'Ctrl-C' if times % 2 else 'SIGTERM'} in {place}")
    record("told to stop and resumed", time.monotonic() - begun)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["everything", "workers"])
def test_checkpoints_from_inside_an_epoch(kind: str, straight: Straight, tmp_path: Path, record: Record) -> None:
    """Those of Lightning's own `every_n_train_steps`, the last batch of an epoch among them."""
    often = "{_target_:pytorch_lightning.callbacks.ModelCheckpoint,dirpath:%s,every_n_train_steps:1,save_top_k:-1}"
    kept, log, begun = tmp_path / "kept", tmp_path / "log", time.monotonic()
    words = (*KINDS[kind], f"+callbacks.often={often % kept}")
    assert run(*words, f"hydra.run.dir={tmp_path / 'first'}", log=log) == 0, log.read_text()
    assert_same(straight(kind), tmp_path / "first")
    for file in sorted(kept.glob("*.ckpt")):
        folder = tmp_path / file.stem.replace("=", "")
        (folder / LAST).parent.mkdir(parents=True)
        shutil.copy(file, folder / LAST)
        shutil.copy(tmp_path / "first" / BEST, folder / BEST)
        assert run(*KINDS[kind], "ckpt=auto", f"hydra.run.dir={folder}", log=log) == 0, log.read_text()
        assert_same(straight(kind), folder)
        record("checkpoint inside an epoch")
    record("checkpoints inside an epoch", time.monotonic() - begun)


@pytest.mark.slow
def test_killed_after_it_stopped_early_it_trains_no_further(straight: Straight, tmp_path: Path) -> None:
    straight("patience")
    # History, best and last checkpoint, then history and last: each synced with its folder.
    assert kill("patience", tmp_path / "run", "write", 11)
    assert (tmp_path / "run" / LAST).is_file()
    go_on("patience", tmp_path / "run")
    assert_same(straight("patience"), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("moved", [True, False])
def test_a_run_goes_on_in_another_folder_with_the_best_epoch_so_far(
    moved: bool, straight: Straight, tmp_path: Path
) -> None:
    folder, other, log = tmp_path / "run", tmp_path / "other", tmp_path / "log"
    stop("everything", folder, "training", 12, signal.SIGTERM)
    if moved:
        folder.rename(other)
    ckpt = "auto" if moved else folder / LAST
    assert run(*FULL, f"ckpt={ckpt}", f"hydra.run.dir={other}", log=log) == 0, log.read_text()
    assert "dirpath has changed" not in log.read_text()
    assert_same(straight("everything"), other)


def test_ctrl_c_twice_does_not_wait(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = run(*FULL, f"hydra.run.dir={tmp_path / 'run'}", log=log, **at("saving", 1, signal.SIGINT))
    assert code == 130, log.read_text()
    assert "stopped by SIGINT at once, without saving; nothing is saved\n" in log.read_text()
    assert not (tmp_path / "run" / LAST).exists()
