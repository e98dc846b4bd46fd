"""What networks cost: counted exactly, measured at all, and put beside what they gain."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from segmentation.analysis.cells import find_cells, find_pairs
from segmentation.analysis.expense import Bench, Expense, expense_rows, extra_latency, short_count
from segmentation.analysis.findings import judge
from segmentation.analysis.page import write_report
from segmentation.analysis.runs import find_runs
from segmentation.cost import grown, measure, multiply_adds, peak_memory
from segmentation.models.network import Network, build_network
from segmentation.train import model_settings, train
from tests.conftest import Compose
from tests.made_up import make_sweep
from tests.settings import plain


def network_of(compose: Compose, *overrides: str) -> Network:
    return build_network(model_settings(plain(compose("backbone.name=test_resnet", *overrides))), 5).eval()


def test_the_lstms_multiply_adds_are_those_of_its_matrices(compose: Compose) -> None:
    settings = ("lstm.hidden_size=8", "lstm.stride=32")
    without = multiply_adds(network_of(compose, "lstm=none"), (64, 96))
    with_lstm = multiply_adds(network_of(compose, "lstm=zigzag", *settings), (64, 96))
    classifier = network_of(compose, *settings).classifier
    assert isinstance(classifier, torch.nn.Conv2d)
    channels = classifier.in_channels
    positions = 2 * 3
    cell = 2 * positions * 4 * 8 * (channels + 8)  # both directions, four gates, input and hidden state
    projection = positions * 16 * channels
    assert with_lstm - without == cell + projection


def test_multiply_adds_do_not_grow_with_what_is_only_moved(compose: Compose) -> None:
    counts = {
        order: multiply_adds(network_of(compose, f"lstm={order}", "lstm.hidden_size=8"), (64, 96))
        for order in ("zigzag", "hilbert", "windows", "rows")
    }
    assert len(set(counts.values())) == 1


def test_memory_is_what_the_work_takes() -> None:
    taken = grown(lambda: torch.ones(64, 2**18).sum())  # 64 MiB
    if taken is None:
        pytest.skip("only Linux tells")
    assert 60 < taken < 80
    assert (grown(lambda: None) or 0) < 8


def test_extra_latency_is_of_the_rounds_side_by_side() -> None:
    drifting = np.arange(15.0)  # the machine slows down; the difference does not
    base = Expense((8, 9), 4, "32-true", 1, 1, drifting.tolist(), 1.0, None)
    other = dataclasses.replace(base, latencies=(drifting + 2).tolist())
    assert extra_latency(base, other) == (2, 2, 2)
    noisy = dataclasses.replace(base, latencies=(drifting + np.resize([-1, 1], 15)).tolist())
    _, low, high = extra_latency(base, noisy)
    assert (low, high) == (-1, 1)


def test_points_per_millisecond(tmp_path: Path) -> None:
    cells = find_cells(find_runs(make_sweep(tmp_path))[0])
    base = Expense((8, 9), 4, "32-true", 10, 10, [5.0] * 15, 100.0, 3.0)
    dearer, equal = dataclasses.replace(base, latencies=[9.0] * 15), dataclasses.replace(base)
    for other, wanted in ((dearer, "+0.50"), (equal, "not measurably slower")):  # 2 points for 4 ms
        bench = Bench("x", {"none": base, "zigzag": other})
        rows = expense_rows(cells, judge(find_pairs(cells)), bench)
        assert [row[-1] for row in rows] == ["", wanted]


def test_small_networks_have_parameters_too() -> None:
    assert [short_count(count) for count in (11_000_000, 559_128, 16_067)] == ["11.00 M", "0.56 M", "16.1 k"]


def test_a_report_measures_the_networks_of_its_runs(tiny: Compose, tmp_path: Path) -> None:
    for name in ("none", "zigzag"):
        config = tiny(f"lstm={name}", "callbacks.inspection.images=1")
        train(config)
        folder = tmp_path / "sweep" / name
        shutil.move(tmp_path / "run", folder)
        (folder / ".hydra").mkdir()
        OmegaConf.save(config, folder / ".hydra" / "config.yaml")
        (folder / ".hydra" / "hydra.yaml").write_text(f"hydra: {{runtime: {{choices: {{lstm: {name}}}}}}}")
    page = write_report(tmp_path / "sweep", None, lambda cells: measure(cells, torch.device("cpu"))).read_text()
    assert "What it costs" in page
    assert "How far it sees" in page
    assert page.count('<svg class="scan"') == 1
    (bench,) = json.loads((tmp_path / "sweep" / "report" / "cost.json").read_text()).values()
    none, zigzag = bench["expenses"]["none"], bench["expenses"]["zigzag"]
    assert (none["size"], none["batch"], none["precision"]) == ([32, 48], 4, "32-true")
    assert zigzag["parameters"] > none["parameters"]
    assert zigzag["multiply_adds"] > none["multiply_adds"]
    assert len(none["latencies"]) == 15
    assert none["throughput"] > 0


def test_a_report_of_runs_without_a_model_says_so(tmp_path: Path) -> None:
    page = write_report(make_sweep(tmp_path), None, lambda cells: measure(cells, torch.device("cpu"))).read_text()
    assert "what the networks of resnet18 cost" in page
    assert "how far none, zigzag see: analysis.npz is not there" in page


def test_memory_of_a_gpu_is_read_after_the_device_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process that has not used it yet, torch refuses to forget the peak."""
    called: list[str] = []
    sizes = {"reset_peak_memory_stats": 0, "memory_allocated": 2**20, "max_memory_allocated": 4 * 2**20}

    def note(name: str, *_: Any) -> int:
        called.append(name)
        return sizes.get(name, 0)

    for name in ("init", *sizes):
        monkeypatch.setattr(torch.cuda, name, functools.partial(note, name))
    assert peak_memory(functools.partial(note, "work"), torch.device("cuda")) == 3
    assert called == ["init", "reset_peak_memory_stats", "memory_allocated", "work", "max_memory_allocated"]
