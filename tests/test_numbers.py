"""Numbers that go wrong: who is named, what is kept, and that looking changes nothing."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn

from segmentation.config import CONF
from segmentation.data.module import DataModule
from segmentation.errors import UserError
from segmentation.finite import not_finite
from segmentation.guard import FiniteNumbers
from segmentation.train import build_task, fit_and_test
from tests import settings
from tests.conftest import Compose

LOSSES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))
VOID = 255
Words = Callable[..., dict[str, Any]]


@pytest.fixture
def folder_of(tiny: Compose, tmp_path: Path) -> Words:
    """`folder_of(*overrides)`: settings for twelve noisy images, of which one, `white`, is white."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 3)):
        for index in range(count):
            name = "white" if (split, index) == ("train", 7) else f"{split}_{index}"
            image = rng.integers(0, 255, (32, 48, 3), np.uint8)
            labels = rng.integers(0, 3, (32, 48), np.uint8)
            for kind, array in (("images", image if name != "white" else image | 255), ("masks", labels)):
                path = tmp_path / "data" / split / kind / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)

    def compose(*words: str) -> dict[str, Any]:
        data = (
            "data=folder",
            f"data.root={tmp_path / 'data'}",
            "data.classes=[a,b,c]",
            "augment=none",
            "test=false",
            "logger=none",
        )
        found = settings.plain(tiny(*data, "trainer.max_epochs=2", "data.batch_size=3", *words))
        found["data"]["splits"] = {"train": None, "val": None}
        found["callbacks"] = {name: found["callbacks"][name] for name in ("best", "last")}
        return found

    return compose


class Spoil(pl.Callback):
    """From the second epoch on, does something to what the LSTM returns for a batch with the white image."""

    change: ClassVar[Callable[[Tensor], Tensor]]
    seen: ClassVar[list[tuple[int, list[str]]]] = []  # step and image files of such batches

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seen.clear()
        network: Any = pl_module.network
        network.register_forward_pre_hook(self.look)
        network.lstm.register_forward_hook(lambda module, inputs, output: Spoil.change(output) if self.on else None)

    def look(self, module: nn.Module, inputs: Any) -> None:
        self.on = self.epoch > 0 and bool((inputs[0] == 1).flatten(1).all(1).any())

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.epoch = trainer.current_epoch
        reader = trainer.datamodule.reader("train")  # type: ignore[attr-defined]
        indices = batch["index"].tolist()
        if self.epoch and "white" in [reader.names[index] for index in indices]:
            self.seen.append((trainer.global_step, [str(reader.image_file(index)) for index in indices]))


def spoiled(words: dict[str, Any], change: Callable[[Tensor], Tensor]) -> str:
    """The line that a training with `Spoil` ends in."""
    Spoil.change = staticmethod(change)
    words["callbacks"] = {"spoil": {"_target_": "tests.test_numbers.Spoil"}} | words["callbacks"]
    folder = Path(words["output"])
    with pytest.raises(UserError) as caught:
        fit_and_test(words, folder, None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def checkpoints(words: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in sorted(Path(words["output"], "checkpoints").glob("*")):
        yield file, torch.load(file, weights_only=True)


def to_nan(output: Tensor) -> Tensor:
    return output * float("nan")


def to_infinity(output: Tensor) -> Tensor:
    return output + float("inf")


@pytest.mark.parametrize("change", [to_nan, to_infinity])
@pytest.mark.parametrize("overrides", [(), ("optimizer.name=RAdam",), ("trainer.log_every_n_steps=1",), ("aux=deep",)])
def test_what_went_wrong_is_named(overrides: tuple[str, ...], change: Any, folder_of: Words) -> None:
    words = folder_of(*[word for word in overrides if "log_every" not in word])
    if "trainer.log_every_n_steps=1" in overrides:
        words["trainer"]["args"] = {"log_every_n_steps": 1}
    said = spoiled(words, change)
    step, names = Spoil.seen[0]
    assert said.startswith(f"training: epoch 1, step {step}: the loss is nan with {', '.join(names)}: ")
    assert "the first output that is not finite is of network.lstm (SpatialLSTM);" in said
    assert f"the last good state is in {words['output']}/checkpoints/last.ckpt" in said
    kept = dict(checkpoints(words))
    assert [path.name for path in kept] == ["best.ckpt", "last.ckpt"]
    for content in kept.values():
        assert content["global_step"] == 4  # those of the first epoch
        assert not_finite(content["state_dict"]) is None


def test_a_gradient_that_goes_wrong_is_named(folder_of: Words) -> None:
    """The root of 0 is 0, its slope infinite."""
    said = spoiled(folder_of(), lambda output: output + (0 * output).sqrt())
    step, names = Spoil.seen[0]
    assert said.startswith(f"training: epoch 1, step {step}: the norm of the gradient is nan with {', '.join(names)}: ")
    assert "forward all is finite, backward the first that is not is the gradient of network.lstm." in said


class Weights(pl.Callback):
    """Notes the loss, the first name and the weights of every step."""

    losses: ClassVar[list[tuple[str, float]]] = []
    after: ClassVar[list[dict[str, Tensor]]] = []

    def on_fit_start(self, *_: Any) -> None:
        self.losses.clear()
        self.after.clear()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        name = trainer.datamodule.reader("train").names[int(batch["index"][0])]
        self.losses.append((name, float(outputs["loss"])))
        self.after.append({name: one.detach().clone() for name, one in pl_module.named_parameters()})


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD", "RAdam"])
def test_weights_are_those_that_the_bad_batch_met(optimizer: str, folder_of: Words) -> None:
    """So that the layer found is the one that did it, and not one that was poisoned since."""
    words = folder_of(f"optimizer.name={optimizer}")
    words["callbacks"]["weights"] = {"_target_": "tests.test_numbers.Weights"}
    spoiled(words, to_nan)
    bad = Spoil.seen[0][0]
    before, last = Weights.after[bad - 1], Weights.after[-1]
    assert not_finite(last) is None
    if optimizer != "RAdam":  # whose momentum goes on
        assert all(torch.equal(before[name], last[name]) for name in before)


class Poison(pl.Callback):
    """Makes a weight infinite after the last step of the second epoch, behind the guard's back."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.current_epoch == 1 and trainer.is_last_batch:
            pl_module.network.classifier.weight.data[0, 0] = float("inf")


@pytest.mark.parametrize("validated", [True, False])
def test_a_bad_state_never_replaces_a_good_one(validated: bool, folder_of: Words) -> None:
    words = folder_of("monitor=train/loss")
    words["trainer"]["args"] = {} if validated else {"limit_val_batches": 0}
    words["callbacks"]["poison"] = {"_target_": "tests.test_numbers.Poison"}
    with pytest.raises(UserError, match=r"network\.classifier") as caught:
        fit_and_test(words, Path(words["output"]), None)
    assert ("the loss of the validation is" in str(caught.value)) is validated
    named = "val_0.png: the first output that is not finite is of network.classifier (Conv2d), whose weight is not"
    assert (named in str(caught.value)) is validated
    kept = dict(checkpoints(words))
    assert [(path.name, content["global_step"]) for path, content in kept.items()] == [
        ("best.ckpt", 4), ("last.ckpt", 4),
    ]  # fmt: skip
    assert all(not_finite(content["state_dict"]) is None for content in kept.values())
    assert not Path(words["output"], "model.safetensors").exists()


def test_a_step_that_overflows_is_noticed_at_the_end_of_its_epoch(folder_of: Words) -> None:
    words = folder_of("optimizer=sgd", "optimizer.lr=1e38", "callbacks=default") | {"callbacks": {}}
    with pytest.raises(UserError, match="is not finite") as caught:
        fit_and_test(words, Path(words["output"]), None)
    assert "no checkpoint was written before" in str(caught.value)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_looking_changes_nothing(optimizer: str, folder_of: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for looked in (True, False):
        if not looked:
            monkeypatch.setattr(FiniteNumbers, "on_before_optimizer_step", lambda *_: None)
        words = folder_of(f"optimizer={optimizer}")
        fit_and_test(words, Path(words["output"]), None)
        weights.append(Path(words["output"], "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize("aux", ["none", "deep"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_void_batch_has_no_gradient(loss: str, aux: str, tiny: Compose) -> None:
    words = settings.plain(tiny(f"loss={loss}", f"aux={aux}"))
    task = build_task(words, DataModule(words["data"], {}, 0))
    task.trainer = SimpleNamespace(world_size=1)  # type: ignore[assignment]
    image = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    value, _, labelled = task.train().training_loss({"image": image, "mask": torch.full((2, 32, 48), VOID)})
    torch.autograd.backward(value)
    assert (value.item(), labelled.item()) == (0, 0)
    gradients = {name: one.grad for name, one in task.named_parameters() if one.grad is not None}
    assert "network.classifier.weight" in gradients
    assert all(gradient.eq(0).all() for gradient in gradients.values())  # a NaN is not
    assert not_finite(task.state_dict()) is None


def make_void(words: dict[str, Any], split: str, name: str) -> None:
    file = Path(words["data"]["root"], split, "masks", f"{name}.png")
    Image.fromarray(np.full((32, 48), VOID, np.uint8)).save(file)


def test_a_void_batch_counts_for_nothing(folder_of: Words) -> None:
    """Neither in the weights, where nothing else moves them, nor in an epoch's means."""
    words = folder_of("data.batch_size=1", "optimizer=sgd", "optimizer.weight_decay=0", "trainer.max_epochs=1")
    words["optimizer"]["args"] = {"momentum": 0.0}
    words["callbacks"] = {"weights": {"_target_": "tests.test_numbers.Weights"}}
    make_void(words, "train", "white")
    make_void(words, "val", "val_1")
    fit_and_test(words, Path(words["output"]), None)
    position = [name for name, _ in Weights.losses].index("white")
    assert position > 0
    assert Weights.losses[position][1] == 0
    before, after = Weights.after[position - 1 : position + 1]
    assert all(torch.equal(before[name], after[name]) for name in before)
    (row,) = json.loads(Path(words["output"], "history.json").read_text())
    assert row["train/loss"] == pytest.approx(np.mean([loss for name, loss in Weights.losses if name != "white"]))
    # Beside the void image, two more: the mean is theirs, as if it were not there.
    for file in Path(words["data"]["root"], "val").rglob("val_1.png"):
        file.unlink()
    fit_and_test(words, Path(words["output"]), None)
    (without,) = json.loads(Path(words["output"], "history.json").read_text())
    assert without["val/loss"] == pytest.approx(row["val/loss"])


def test_a_void_step_is_that_of_no_gradient(tiny: Compose) -> None:
    """Momentum and weight decay go on, as torch's optimizers have it."""
    words = settings.plain(tiny())
    results = []
    for void in (True, False):
        torch.manual_seed(0)
        task = build_task(words, DataModule(words["data"], {}, 0)).train()
        task.trainer = SimpleNamespace(world_size=1)  # type: ignore[assignment]
        optimizer = torch.optim.AdamW(task.parameters(), lr=0.01, weight_decay=0.1)
        image = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
        torch.autograd.backward(task.training_loss({"image": image, "mask": torch.ones(2, 32, 48).long()})[0])
        optimizer.step()
        if void:
            optimizer.zero_grad()
            torch.autograd.backward(task.training_loss({"image": image, "mask": torch.full((2, 32, 48), VOID)})[0])
        else:
            for parameter in task.parameters():
                assert parameter.grad is not None
                parameter.grad.zero_()
        optimizer.step()
        results.append({name: one.detach() for name, one in task.named_parameters()})
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_absent_classes_are_said(folder_of: Words, caplog: pytest.LogCaptureFixture) -> None:
    words = folder_of("data.classes=[a,b,c,d]", "trainer.max_epochs=1", "data.batch_size=12") | {"test": True}
    fit_and_test(words, Path(words["output"]), None)
    metrics = json.loads(Path(words["output"], "metrics.json").read_text())
    present = [metrics["per_class"][name]["iou"] for name in "abc"]
    assert metrics["mean_iou"] == pytest.approx(sum(present) / 3)
    said = [record.getMessage() for record in caplog.records]
    assert "val: no pixel is of d, which the means leave out" in said  # where evaluate and train end
    assert "data: no pixel of val is of class 3, which its means leave out" in said  # before a training begins
