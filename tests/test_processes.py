"""Several processes: evaluation as by one, training as by one within tolerance, sweeps in tidy folders."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.plugins import LayerSync
from safetensors.torch import load_file
from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct
from torch import nn

from segmentation.data.samplers import UNCOUNTED, EvaluationSampler
from segmentation.loopback import GLOO, LOOPBACK, listen
from segmentation.models.hastened import HastenedNorm, HastenedNormAct, hasten
from segmentation.sync import GPU, SummedBatchNorm, SummedBatchNormAct, SyncedBatchNorm, change_classes
from tests.conftest import TINY

COMMON = (*TINY, "optimizer=sgd", "optimizer.lr=0.01", "logger=none", "data.splits={train:8,val:3,test:5}")
TWO = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")


def train(*arguments: str, first: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "segmentation.train", *first, *COMMON, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


@pytest.mark.parametrize("hastened", [False, True])
def test_batch_norm_keeps_its_tensors_and_its_activation(hastened: bool) -> None:
    network: nn.Module = nn.Sequential(nn.Conv2d(3, 4, 1), BatchNormAct2d(4), nn.BatchNorm2d(4)).eval()
    if hastened:  # as every network that is built here
        hasten(network)
    image = torch.randn(2, 3, 5, 5)
    before, names = network(image), network.state_dict().keys()
    plugin: LayerSync = SyncedBatchNorm()
    network = plugin.apply(network)
    assert [type(module) for module in network.children()] == [nn.Conv2d, SummedBatchNormAct, SummedBatchNorm]
    assert torch.equal(network(image), before)
    assert network.state_dict().keys() == names
    network = plugin.revert(network)
    assert [type(module) for module in network.children()] == [nn.Conv2d, HastenedNormAct, HastenedNorm]
    network = change_classes(network, GPU)
    assert [type(module) for module in network.children()] == [nn.Conv2d, SyncBatchNormAct, nn.SyncBatchNorm]
    assert torch.equal(network(image), before)


@pytest.mark.parametrize(("nodes", "chosen", "expected"), [
    (1, None, "lo"), (1, "eth7", "eth7"), (2, None, None), (2, "lo", None), (2, "eth7", "eth7"),
])  # fmt: skip
def test_where_processes_listen(
    nodes: int, chosen: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "environ", {GLOO: chosen} if chosen else {})
    listen(nodes)
    assert os.environ.get(GLOO) == expected


def test_processes_of_one_machine_listen_on_it_alone(tmp_path: Path) -> None:
    code = f"import os; from segmentation.cli import command; command('train')(lambda _: print(os.environ[{GLOO!r}]))()"
    words = [f"hydra.run.dir={tmp_path}", "hydra/job_logging=none"]
    environment = {key: value for key, value in os.environ.items() if key != GLOO}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == LOOPBACK or sys.platform != "linux", done.stderr


def test_a_process_without_images_gets_one_that_does_not_count() -> None:
    assert [list(EvaluationSampler(2, rank, 3)) for rank in range(3)] == [[(0, 0)], [(0, 1)], [(0, UNCOUNTED)]]


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of a training by one process, and by two."""
    one, two = (tmp_path_factory.mktemp(name) / "run" for name in ("one", "two"))
    for folder, arguments in ((one, ()), (two, TWO)):
        done = train(f"hydra.run.dir={folder}", *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
    return one, two


def test_two_processes_train_as_one(one_and_two: tuple[Path, Path]) -> None:
    one, two = one_and_two
    first, second = (load_file(folder / "model.safetensors") for folder in (one, two))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-5, msg=name)
    rows = [json.loads((folder / "history.json").read_text())[0] for folder in (one, two)]
    for key in ("train/loss", "val/loss", "val/mean_iou"):
        assert rows[1][key] == pytest.approx(rows[0][key], rel=1e-4), key
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}


@pytest.mark.slow
def test_two_processes_evaluate_as_one_to_the_last_bit(one_and_two: tuple[Path, Path], tmp_path: Path) -> None:
    best = one_and_two[0] / "checkpoints" / "best.ckpt"
    for splits in ("data.splits={train:8,val:3,test:5}", "data.splits={train:8,val:3,test:1}"):
        for folder, arguments in ((tmp_path / "test_one", ()), (tmp_path / "test_two", TWO)):
            done = train("train=false", f"ckpt={best}", f"hydra.run.dir={folder}", splits, *arguments)
            assert done.returncode == 0, done.stderr[-3000:]
        assert metrics(tmp_path / "test_one")["confusion_matrix"] == metrics(tmp_path / "test_two")["confusion_matrix"]
        assert metrics(tmp_path / "test_two")["num_images"] == metrics(tmp_path / "test_one")["num_images"]


@pytest.mark.slow
def test_numbers_that_go_wrong_end_both_processes(tmp_path: Path) -> None:
    done = train(f"hydra.run.dir={tmp_path}", "optimizer.lr=1e30", "data.cache=off", *TWO)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said
    assert all(line.startswith("error: training: epoch 0, step 1: ") for line in said)
    assert "the first output that is not finite is of network." in said[0]
    assert not list(tmp_path.glob("checkpoints/*"))


@pytest.mark.slow
def test_a_sweep_of_two_processes_a_job_ends_in_tidy_folders(tmp_path: Path) -> None:
    folder = tmp_path / "a sweep"
    done = train("seed=0,1", "optimizer.lr=0.01,-1", f"hydra.sweep.dir='{folder}'", *TWO, first=("-m",))
    assert done.returncode == 1
    assert "give a number above 0" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: 2 of 4 jobs failed")
    assert {path.name for path in folder.iterdir()} == {"0", "1", "2", "3", "ledger.jsonl", "multirun.yaml"}
    finished = [path.parent for path in sorted(folder.glob("*/metrics.json"))]
    assert [path.name for path in finished] == ["0", "1"]
    for path in finished:
        assert not list(path.glob("train_ddp*"))
        assert not (path / "0").exists()
