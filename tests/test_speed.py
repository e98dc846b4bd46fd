"""What makes a training fast changes nothing but its speed, and does what it says."""

import json
import platform
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from segmentation.optim import build_optimizer
from segmentation.train import fit_and_test
from tests.conftest import Compose

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library's own memory")


FAULTS = """
import resource, torch
from segmentation.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(2**24)  # 64 MiB, above any threshold of glibc's
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

handed_back = faults()
assert keep_freed_memory()
faults()
kept = min(faults() for _ in range(5))  # a block may still have to be found once
assert handed_back > 4 * max(1, kept), (handed_back, kept)
"""


@glibc
def test_freed_memory_is_kept() -> None:
    """In a process of its own, which has handed memory back until then."""
    subprocess.run([sys.executable, "-c", FAULTS], check=True)


def test_every_cpu_training_keeps_its_memory(monkeypatch: pytest.MonkeyPatch, tiny: Compose, tmp_path: Path) -> None:
    from segmentation import trainer

    asked: list[bool] = []
    monkeypatch.setattr(trainer, "keep_freed_memory", lambda: asked.append(True))
    config: Any = OmegaConf.to_container(tiny().trainer)
    trainer.build_trainer(config, tmp_path)
    assert asked == [True]


def optimizer_of(name: str, *, fused: bool = True, **args: Any) -> torch.optim.Optimizer:
    config = {
        "name": name,
        "lr": 0.1,
        "backbone_lr_factor": 1.0,
        "layer_decay": 1.0,
        "weight_decay": 0.01,
        "args": args,
    }
    return build_optimizer(nn.Linear(2, 2), config, fused=fused)


def test_optimizers_are_fused_where_they_can_be() -> None:
    assert optimizer_of("AdamW").defaults["fused"] is True
    assert optimizer_of("SGD", momentum=0.9).defaults["fused"] is True
    assert "fused" not in optimizer_of("RAdam").defaults
    assert not optimizer_of("AdamW", fused=False).defaults["fused"]
    assert optimizer_of("AdamW", foreach=True).defaults["fused"] is not True


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_fused_step_is_the_same_step(optimizer: str, tiny: Compose, tmp_path: Path) -> None:
    def losses(*overrides: str) -> list[float]:
        config = tiny(f"optimizer={optimizer}", "trainer.max_epochs=3", "test=false", *overrides)
        settings: Any = OmegaConf.to_container(config, resolve=True)
        folder = tmp_path / str(len(overrides))
        fit_and_test(settings | {"output": str(folder), "callbacks": {}}, folder, None)
        return [row["train/loss"] for row in json.loads((folder / "history.json").read_text())]

    assert losses() == pytest.approx(losses("+optimizer.args.fused=false"), rel=1e-4)


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch publishes no types for it
    """Counts the calls at which the host would wait for a device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        waits = any(word in name for word in ("_local_scalar_dense", "nonzero", "unique", "masked_select"))
        if name.startswith("aten.index.") and any(one is not None and one.dtype == torch.bool for one in args[1]):
            waits = True  # as many results as there are Trues: the host must know
        if waits:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def count_waits(settings: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The waits of an epoch's steps, with all that Lightning, loggers and callbacks do between them."""
    import pytorch_lightning as pl

    import segmentation.callbacks

    waits = Waits()

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 0:
                waits.__enter__()  # type: ignore[no-untyped-call]

        def on_train_epoch_end(self, *_: Any) -> None:
            waits.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(segmentation.callbacks, "Watch", Watch, raising=False)
    callbacks = {"watch": {"_target_": "segmentation.callbacks.Watch"}} | settings["callbacks"]
    trainer = settings["trainer"] | {"args": {"limit_val_batches": 0}}
    fit_and_test(settings | {"callbacks": callbacks, "trainer": trainer, "output": str(folder)}, folder, None)
    return sum(waits.counts.values())


# Not so the focal and the Lovász loss, which pick pixels out by a mask, nor on CPUs the Dice loss, whose one-hot
# encoding looks at its labels there: how many they are, the host must know.
@pytest.mark.parametrize("overrides", [(), ("lstm=renet", "lstm.num_layers=2"), ("lstm.cell=mingru",)])
def test_no_step_waits_for_the_device(
    overrides: tuple[str, ...], tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for images in (80, 160):  # 20 and 40 steps: every tenth is logged, the bar looks once
        words = ["test=false", "callbacks.progress.seconds=1000", *overrides]
        settings: Any = OmegaConf.to_container(tiny(f"data.splits.train={images}", *words), resolve=True)
        settings["callbacks"].pop("best")
        counts.append(count_waits(settings, tmp_path / str(images), monkeypatch))
    assert counts[1] - counts[0] <= 2 * 2, counts  # of 20 more steps two are logged, with a value or two each


def test_a_bar_that_always_looks_would_be_noticed(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["test=false", "callbacks.progress.seconds=0"]
    settings: Any = OmegaConf.to_container(tiny("data.splits.train=80", *words), resolve=True)
    settings["callbacks"].pop("best")
    assert count_waits(settings, tmp_path, monkeypatch) >= 20


def test_compile_compiles_the_network_in_place(tiny: Compose) -> None:
    from segmentation.data.module import DataModule
    from segmentation.train import build_task

    names = []
    for compiled in (False, True):
        settings: Any = OmegaConf.to_container(tiny(f"trainer.compile={compiled}"), resolve=True)
        network = build_task(settings, DataModule(settings["data"], {}, 0)).network
        assert (network._compiled_call_impl is not None) is compiled
        names.append(list(network.state_dict()))
    assert names[0] == names[1]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler here")
def test_a_compiled_training_has_the_same_losses(tiny: Compose, tmp_path: Path) -> None:
    losses = []
    for compiled in (False, True):
        folder = tmp_path / str(compiled)
        config = tiny("trainer.max_epochs=2", "test=false", f"trainer.compile={compiled}", f"output={folder}")
        fit_and_test(OmegaConf.to_container(config, resolve=True), folder, None)  # type: ignore[arg-type]
        losses.append([row["train/loss"] for row in json.loads((folder / "history.json").read_text())])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
