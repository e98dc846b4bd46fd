"""The benchmark: what it computes from what it measured, and that each of its sections measures."""

import json
import multiprocessing
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from segmentation.benchmark import benchmark
from segmentation.benchmarks import growth, training
from segmentation.benchmarks.contestants import Bare, Ours
from segmentation.benchmarks.elsewhere import Elsewhere, serve
from segmentation.benchmarks.figures import Finding, ratio, write
from segmentation.benchmarks.files import on_disk, sample_files
from segmentation.benchmarks.loading import measure_loading
from segmentation.benchmarks.peer import Files, Peer, PeerTask, peer_loader, peers_own
from segmentation.benchmarks.scanning import torchs_own
from segmentation.benchmarks.timing import in_turn, matrix_product
from segmentation.errors import UserError
from segmentation.models.minimal import MinGRU
from segmentation.models.orders import zigzag
from segmentation.models.scans import Scan
from tests.conftest import Compose

SMALL = (
    "backbone.name=test_resnet",
    "data.size=[32,64]",
    "data.batch_size=4",
    "data.splits={train:24,val:6,test:6}",
    "trainer.accelerator=cpu",
    "trainer.precision=32",
    "lstm.hidden_size=8",
    "benchmark=quick",
    "benchmark.repetitions=2",
)


@pytest.fixture
def settings(compose: Compose, tmp_path: Path) -> dict[str, Any]:
    config = compose(*SMALL, name="benchmark")
    plain: Any = OmegaConf.to_container(config, resolve=True)
    plain.pop("benchmark")
    return on_disk(plain, tmp_path / "files")


def test_a_ratio_pairs_repetitions() -> None:
    over, under = Finding("part", "one", "s", [2, 6, 100]), Finding("part", "other", "s", [1, 2, 10])
    found = ratio(over, under, "one / other", at_least=3.5)
    assert (list(found.values), found.median, found.met) == ([2, 3, 10], 3, False)
    assert ratio(over, under, "", at_most=3).met is True
    assert over.met is None
    assert found.row()[-1] == ">= 3.5 missed"


def test_what_was_found_is_written(tmp_path: Path) -> None:
    write([Finding("part", "one", "images/s", [1, 2, 3], at_least=1)], {"device": "x"}, tmp_path)
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert content["machine"] == {"device": "x"}
    assert content["findings"][0] | {"median": 2, "met": True, "values": [1, 2, 3]} == content["findings"][0]
    assert "| part | one | 2 | 1 | 3 | images/s | >= 1 met |" in (tmp_path / "benchmark.md").read_text()


def test_subjects_are_measured_in_turn() -> None:
    calls: list[str] = []

    def subject(name: str) -> Any:
        def run() -> float:
            calls.append(name)
            return len(calls)

        return run

    values = in_turn({"a": subject("a"), "b": subject("b")}, 2, "test")
    assert "".join(calls) == "ababab"
    assert values == {"a": [3, 5], "b": [4, 6]}  # the first of each warms up


def test_growth_is_the_power_of_the_positions() -> None:
    sides = [10, 20, 40, 80]
    for exponent in (1, 2):
        found = [Finding("growth", "", "ms", [5 * (side * side) ** exponent]) for side in sides]
        assert growth.power(sides, found) == pytest.approx(exponent)


def test_the_machines_peak_is_a_rate() -> None:
    assert matrix_product(torch.device("cpu"), torch.float32)() > 1e9


def test_training_work_is_counted_forward_and_backward(settings: dict[str, Any], tmp_path: Path) -> None:
    bare = Bare(Ours(settings, tmp_path, 1))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        bare.task(bare.batch["image"], bare.batch["mask"].shape[-2:])
    assert 2.5 < training.training_flops(bare) / counter.get_total_flops() < 3.1
    assert bare.train() > 0


def test_the_peer_trains_the_same_network(settings: dict[str, Any], tmp_path: Path) -> None:
    rival = Peer(settings, tmp_path, 1, "cpu", "32-true", 0)
    rival.task = PeerTask(settings, len(settings["data"]["classes"]), 3)
    ours = Bare(Ours(settings, tmp_path, 1)).task.network
    assert sum(p.numel() for p in rival.task.model.parameters()) == sum(p.numel() for p in ours.parameters())
    before = [parameter.clone() for parameter in rival.task.parameters()]
    assert rival.train() > 0
    assert any(not torch.equal(one, other) for one, other in zip(before, rival.task.parameters(), strict=True))


def test_too_few_images_are_named(settings: dict[str, Any], tmp_path: Path) -> None:
    few = {**settings, "data": {**settings["data"], "splits": {**settings["data"]["splits"], "val": "few.txt"}}}
    names = Ours(settings, tmp_path, 1).data().reader("val").names
    (Path(settings["data"]["root"]) / "few.txt").write_text("\n".join(names[:2]))
    ours = Ours(few, tmp_path, 1)
    ours.train()
    with pytest.raises(UserError, match="2 batches are too few"):
        ours.evaluate(4)


def test_rates_go_on_over_epochs(settings: dict[str, Any], tmp_path: Path) -> None:
    few = {**settings, "data": {**settings["data"], "batch_size": 12}}  # two batches an epoch
    ours = Ours(few, tmp_path, 4)
    assert ours.train() > 0
    assert ours.task is not None
    assert ours.task.trainer.global_step == 6
    assert ours.task.trainer.current_epoch == 3
    [cached, decoded] = measure_loading(few, tmp_path, 1, images=60, workers=[2], wanted=1)
    assert cached.subject == "2 workers, from the cache"
    assert decoded.median > 0


def test_the_peers_workers_have_one_opencv_thread_each(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(self: Files, index: int) -> int:
        return cv2.getNumThreads()

    monkeypatch.setattr(Files, "__getitem__", count)
    for batch in peer_loader(settings, sample_files(settings, "train"), 1):
        assert batch.tolist() == [1] * len(batch)


def test_the_peer_has_its_own_decoder() -> None:
    assert peers_own("segmentation.models.decoders.FPN") == "segmentation_models_pytorch.decoders.fpn.model.FPN"
    with pytest.raises(UserError, match="decoder: the benchmark's peer"):
        peers_own("segmentation.models.decoders.FCN")


def test_drawn_samples_become_files(settings: dict[str, Any]) -> None:
    assert len(sample_files(settings, "train")) == 24
    assert all(image.is_file() and mask.is_file() for image, mask in sample_files(settings, "val"))


class Answering:
    """What another process is asked."""

    def __init__(self, answer: float) -> None:
        if answer < 0:
            raise UserError("less than nothing")
        self.answer = answer

    def train(self) -> float:
        return self.answer

    def memory(self) -> float | None:
        raise UserError("no memory")


def served(answer: float) -> tuple[Elsewhere, Any]:
    """An `Elsewhere` that a thread of this process answers."""
    there = Elsewhere.__new__(Elsewhere)
    there.ask, other = multiprocessing.Pipe()
    thread: Any = threading.Thread(target=serve, args=(other, f"{__name__}.Answering", (answer,)))
    there.process = thread
    thread.start()
    return there, other


def test_another_process_answers_and_ends() -> None:
    there, _ = served(2.5)
    assert there.call("train") == 2.5
    with pytest.raises(UserError, match="no memory"):
        there.call("memory")
    there.close()
    assert not there.process.is_alive()


def test_what_cannot_be_built_elsewhere_is_said_here() -> None:
    there, _ = served(-1)
    for _ in range(2):
        with pytest.raises(UserError, match="less than nothing"):
            there.call("train")
    there.close()


def test_a_process_that_is_gone_is_one_line() -> None:
    there, other = served(1)
    there.close()
    other.close()
    with pytest.raises(UserError, match="has ended"):
        there.call("train")
    there.close()


def test_every_section_measures_and_draws(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of `quick`, with nothing but this process."""

    class Here:
        def __init__(self, kind: str, *arguments: Any) -> None:
            self.built = get_class(kind)(*arguments)

        def call(self, method: str) -> Any:
            return getattr(self.built, method)()

        def close(self) -> None: ...

    monkeypatch.setattr(training, "Elsewhere", Here)
    sections = "benchmark.sections"
    config = compose(
        *SMALL,
        f"{sections}.training.steps=1",
        f"{sections}.training.images=2",
        f"{sections}.training.peer_workers=0",
        f"{sections}.training.batch_sizes=[4]",
        f"{sections}.loading.images=4",
        f"{sections}.share.strides=[16,8]",
        f"{sections}.growth.sides=[4,6,8]",
        f"{sections}.growth.chunk=8",
        name="benchmark",
    )
    findings = benchmark(config, tmp_path)
    parts = {finding.part for finding in findings}
    assert parts == {"training, batch 4", "evaluation", "loading", "scan against torch's lstm alone",
                     "LSTM at stride 16", "LSTM at stride 8", "growth"}  # fmt: skip
    measured = [finding for finding in findings if finding.unit in ("images/s", "ms", "times", "%", "GFLOP/s")]
    assert all(value > 0 for finding in measured for value in finding.values)
    assert (tmp_path / "benchmark.png").stat().st_size > 10_000
    assert len(json.loads((tmp_path / "benchmark.json").read_text())["findings"]) == len(findings)


@pytest.mark.slow
def test_quick_ends_within_two_minutes(tmp_path: Path) -> None:
    start = time.monotonic()
    words = ["benchmark=quick", "trainer.accelerator=cpu", f"hydra.run.dir={tmp_path}"]
    subprocess.run([sys.executable, "-m", "segmentation.benchmark", *words], check=True, capture_output=True)
    assert time.monotonic() - start < 120
    subjects = {row["subject"] for row in json.loads((tmp_path / "benchmark.json").read_text())["findings"]}
    assert {"this project / peer", "this project / bare loop"} <= subjects


def test_a_scan_is_compared_with_torchs_own_network_where_torch_has_it() -> None:
    kinds = {}
    for cell in ("lstm", "gru", "mingru"):
        scan = Scan(3, zigzag, {}, cell=cell, hidden_size=4, num_layers=2, bidirectional=True, chunk=None)
        own = torchs_own(scan, cell)
        kinds[cell] = type(own)
        assert [one.shape for one in own.parameters()] == [one.shape for one in scan.cell.parameters()]
    assert kinds == {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "mingru": MinGRU}
