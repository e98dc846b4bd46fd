"""Options of a training beside its network: each does what it says, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from segmentation.averaging import AveragedWeights
from segmentation.data.module import DataModule
from segmentation.errors import UserError
from segmentation.evaluate import described_data, evaluate
from segmentation.freezing import Freeze, FreezeBatchNorm, batch_norms
from segmentation.models.files import load_model
from segmentation.models.network import Network, build_network
from segmentation.models.stages import stages
from segmentation.optim import build_optimizer
from segmentation.task import Task
from segmentation.train import build_task, train
from segmentation.trainer import build_trainer
from tests import settings
from tests.conftest import Compose

State = dict[str, Tensor]


def network(**changes: Any) -> Network:
    torch.manual_seed(0)
    return build_network(settings.model("test_resnet", **changes), 3)


def copy_of(module: nn.Module) -> State:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before: State, after: State) -> set[str]:
    """Names of the tensors that differ."""
    assert before.keys() == after.keys()
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


class Watch(pl.Callback):
    """The task's weights before the training and after every epoch."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.states.append(copy_of(pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.states.append(copy_of(pl_module))


Fit = Callable[..., tuple[Task, list[State]]]


@pytest.fixture
def fit(tiny: Compose, tmp_path: Path) -> Fit:
    def run(*callbacks: pl.Callback, words: tuple[str, ...] = (), epochs: int = 1) -> tuple[Task, list[State]]:
        values = settings.plain(tiny("data.check=false", f"trainer.max_epochs={epochs}", *words))
        pl.seed_everything(0, verbose=False)
        data = DataModule(values["data"], values["augment"], 0)
        task, watch = build_task(values, data), Watch()
        values["trainer"]["args"] = {"enable_progress_bar": False, "limit_val_batches": 1}
        build_trainer(values["trainer"], tmp_path, callbacks=[*callbacks, watch]).fit(task, data)
        return task, watch.states

    return run


def test_every_parameter_of_a_backbone_has_a_stage() -> None:
    for name in ("test_resnet", "test_efficientnet"):
        net = build_network(settings.model(name), 3)
        found = stages(net)
        assert set(found) == {key for key, value in net.backbone.named_parameters() if value.requires_grad}
        assert set(found.values()) == set(range(max(found.values()) + 1))
    net = network()
    found = stages(net)
    assert found["model.conv1.0.weight"] == 0
    assert found["model.layer4.0.conv1.weight"] == max(found.values())
    assert all(value.grad is None for value in net.parameters())


def test_layer_decay_slows_each_stage_by_as_much_again() -> None:
    config = {"name": "SGD", "lr": 0.1, "backbone_lr_factor": 0.5, "layer_decay": 0.5, "weight_decay": 0.0, "args": {}}
    net = network()
    groups = {group["name"]: group for group in build_optimizer(net, config).param_groups}
    last = max(stages(net).values())
    assert list(groups) == ["head", *(f"backbone.{stage}" for stage in range(last + 1))]
    assert groups["head"]["lr"] == 0.1
    assert [groups[f"backbone.{stage}"]["lr"] for stage in range(last + 1)] == pytest.approx(
        [0.05 * 0.5 ** (last - stage) for stage in range(last + 1)]
    )
    everything = [id(value) for group in groups.values() for value in group["params"]]
    assert sorted(everything) == sorted(id(value) for value in net.parameters() if value.requires_grad)
    for wrong in (0, 1.5):
        with pytest.raises(UserError, match=r"optimizer\.layer_decay="):
            build_optimizer(net, config | {"layer_decay": wrong})


@pytest.mark.parametrize(
    ("callback", "holds"),
    [
        (Freeze(["backbone"]), lambda name: name.startswith("backbone.")),
        (Freeze(["decoder", "lstm"]), lambda name: name.startswith(("decoder.", "lstm."))),
        (Freeze(backbone_stages=2), lambda name: name.startswith(("backbone.model.conv1", "backbone.model.layer1"))),
    ],
    ids=["backbone", "several", "stages"],
)
def test_what_is_frozen_stays_and_the_rest_learns(callback: Freeze, holds: Callable[[str], bool], fit: Fit) -> None:
    task, (before, after) = fit(callback, words=("optimizer.weight_decay=0.5", "decoder=fpn"))
    moved = {name.removeprefix("network.") for name in changed(before, after)}
    frozen = {name for name in task.network.state_dict() if holds(name)}
    assert frozen
    assert not moved & frozen  # neither by gradients nor by decay, and no batch norm gathered statistics
    learnt = {name for name, value in task.network.named_parameters() if value.requires_grad and not holds(name)}
    assert learnt <= moved
    groups = task.trainer.optimizers[0].param_groups
    assert not {id(value) for value in callback.frozen} & {id(value) for group in groups for value in group["params"]}


def test_what_is_frozen_for_some_epochs_comes_alive_after_them(fit: Fit) -> None:
    task, states = fit(Freeze(["backbone"], epochs=1), words=("optimizer.weight_decay=0.5",), epochs=2)
    names = {f"network.{name}" for name, _ in task.network.named_parameters() if name.startswith("backbone.")}
    norms = {name for name in states[0] if name.startswith("network.backbone") and name.endswith("running_mean")}
    assert not changed(states[0], states[1]) & (names | norms)
    assert names | norms <= changed(states[1], states[2])


def test_frozen_batch_norms_keep_all_they_have(fit: Fit) -> None:
    task, (before, after) = fit(FreezeBatchNorm())
    norms = [name for name, module in task.network.named_modules() if module in set(batch_norms(task.network))]
    moved = changed(before, after)
    assert norms
    assert not [name for name in moved if name.removeprefix("network.").rpartition(".")[0] in norms]
    assert "network.backbone.model.conv1.0.weight" in moved


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        (Freeze(["backbon"]), "the network has no part 'backbon'; did you mean 'backbone'"),
        (Freeze(), "nothing to freeze"),
        (Freeze(backbone_stages=9), "this backbone has 5 stages"),
        (Freeze("backbon"), "the network has no part 'backbon'; did you mean 'backbone'"),
        (Freeze(["backbone", "decoder", "lstm", "classifier"]), "the whole network is frozen"),
    ],
)
def test_what_cannot_be_frozen_is_named(callback: Freeze, said: str, fit: Fit) -> None:
    with pytest.raises(UserError) as caught:
        fit(callback)
    assert said in str(caught.value)


@pytest.mark.parametrize("choice", ["ema", "[ema,cutmix]", "[cutmix,ema]"])
def test_the_average_of_the_weights_is_what_is_judged_and_saved(
    choice: str, tiny: Compose, compose: Compose, tmp_path: Path
) -> None:
    found = {}
    for name, words in {"plain": (), "mean": (f"callbacks={choice}", "callbacks.ema.decay=0.5")}.items():
        train(tiny(*words, f"output={tmp_path / name}"))
        best = torch.load(tmp_path / name / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        saved, _ = load_model(tmp_path / name)
        last = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        if name == "mean":  # not the weights behind it
            rows = [row["val/mean_iou"] for row in json.loads((tmp_path / name / "history.json").read_text())]
            other = [f"model={tmp_path / name}", "split=val", "data=synthetic", "data.size=[32,48]"]
            config = compose(*other, "data.splits={val:3}", "accelerator=cpu", name="evaluate")
            scores = evaluate(config, described_data(config, other, chosen=True), tmp_path / "again")
            assert scores["mean_iou"] == pytest.approx(max(rows), abs=1e-6)
            means = {key[8:]: value for key, value in last["state_dict"].items() if key.startswith("network.")}
            behind = {key[8:]: v for key, v in last["current_model_state"].items() if key.startswith("network.")}
            assert not changed(saved.state_dict(), means)
            assert changed(saved.state_dict(), behind)
        assert not changed(saved.state_dict(), {key[8:]: v for key, v in best.items() if key.startswith("network.")})
        found[name] = saved.state_dict()
    assert "backbone.model.conv1.0.weight" in changed(found["plain"], found["mean"])


@pytest.mark.parametrize(
    ("steps", "settings", "said"),
    [
        (4, {"decay": 0.9}, "30 steps, and this training has 4; decay=0.25 suits it"),
        (1000, {}, "3000 steps, and this training has 1000; decay=0.997 suits it"),
        (2999, {}, "decay=0.999 suits it"),
        (3, {"decay": 0.9}, "leave it out"),
        (40, {"decay": 0.9, "update_every_n_steps": 10}, "decay=0.25 suits it"),
        (40, {"decay": 0.9, "update_starting_at_step": 36}, "decay=0.25 suits it"),
        (3001, {}, ""),
        (31, {"decay": 0.9}, ""),
    ],
)
def test_a_mean_that_a_training_is_too_short_for_is_said(
    steps: int, settings: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer: Any = SimpleNamespace(estimated_stepping_batches=steps, is_global_zero=True)
    AveragedWeights(**settings).on_fit_start(trainer, pl.LightningModule())
    assert bool(caplog.messages) == bool(said)
    assert said in "".join(caplog.messages)


def test_a_mean_that_never_moves_is_refused() -> None:
    with pytest.raises(UserError, match="decay=1: give at least 0, and less than 1"):
        AveragedWeights(decay=1.0)


def test_an_averaged_training_that_was_stopped_goes_on_to_the_same_weights(tiny: Compose, tmp_path: Path) -> None:
    words = ("callbacks=ema", "callbacks.ema.decay=0.9", "scheduler=constant", "trainer.max_epochs=2")
    train(tiny(*words, f"output={tmp_path / 'straight'}"))
    halt = "+callbacks.halt._target_=tests.test_options.StopAfterFirst"
    with pytest.raises(RuntimeError, match="halt"):
        train(tiny(*words, halt, f"output={tmp_path / 'stopped'}"))
    train(tiny(*words, f"output={tmp_path / 'stopped'}", f"ckpt={tmp_path / 'stopped' / 'checkpoints' / 'last.ckpt'}"))
    straight, stopped = (load_model(tmp_path / name)[0].state_dict() for name in ("straight", "stopped"))
    assert not changed(straight, stopped)


class StopAfterFirst(pl.Callback):
    """Ends a training at the start of its second epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("halt")


def test_auxiliary_heads_change_the_training_and_nothing_else(fit: Fit) -> None:
    words = ("decoder=fpn",)
    plain, (start, end) = fit(words=words)
    for name, heads in (("fcn", 1), ("deep", 3)):
        helped, (other_start, other_end) = fit(words=(*words, f"aux={name}"))
        assert helped.aux is not None
        assert len(helped.aux.heads) == heads
        own = {key: value for key, value in other_start.items() if not key.startswith("aux.")}
        assert not changed(start, own)  # the same network from the same seed
        assert {key for key in other_end if key.startswith("aux.")} & changed(other_start, other_end)
        assert "network.backbone.model.conv1.0.weight" in changed(
            end, {key: value for key, value in other_end.items() if not key.startswith("aux.")}
        )
        assert [group["name"] for group in helped.trainer.optimizers[0].param_groups] == ["head", "backbone", "aux"]
        image = torch.randint(0, 256, (1, 3, 40, 56), dtype=torch.uint8)
        assert helped.eval()(image, (40, 56)).shape == plain.eval()(image, (40, 56)).shape


def test_an_auxiliary_heads_loss_is_zero_where_all_is_void_and_reaches_its_map(tiny: Compose) -> None:
    values = settings.plain(tiny("aux=deep"))
    data = DataModule(values["data"], values["augment"], 0)
    task = build_task(values, data).train()
    assert task.aux is not None
    image = torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8)  # padded inside to 64x64
    task(image, (40, 56))
    assert task.aux(task.loss, torch.full((2, 40, 56), data.ignore_index)).item() == 0
    task(image, (40, 56))
    task.aux(task.loss, torch.randint(0, 5, (2, 40, 56))).backward()
    assert all(value.grad is not None for value in task.aux.parameters())
    assert task.network.classifier.weight.grad is None


def test_heads_leave_no_trace_in_the_saved_model(tiny: Compose, tmp_path: Path) -> None:
    train(tiny("aux=fcn", "decoder=fpn", f"output={tmp_path / 'run'}"))
    saved, _ = load_model(tmp_path / "run")
    assert not [name for name in saved.state_dict() if "aux" in name]


def test_maps_that_are_not_there_are_named(tiny: Compose) -> None:
    for maps in ("[9]", "[]"):
        values = settings.plain(tiny("aux=fcn", f"aux.maps={maps}"))
        with pytest.raises(UserError, match=r"aux\.maps="):
            build_task(values, DataModule(values["data"], values["augment"], 0))


def gradients(net: Network) -> State:
    net.train()
    torch.manual_seed(1)
    net(torch.rand(2, 3, 64, 64)).square().mean().backward()
    return {name: value.grad.clone() for name, value in net.named_parameters() if value.grad is not None}


def kept(net: Network) -> int:
    """Numbers that the backward pass of a step has to keep."""
    seen: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    net.train()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        net(torch.rand(2, 3, 64, 64))
    return sum(seen.values())


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_checkpointing_keeps_less_and_changes_no_gradient(name: str) -> None:
    nets = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        nets.append(build_network(settings.model(name, backbone__checkpointing=checkpointing), 3))
    plain, thrifty = (gradients(net) for net in nets)
    assert plain.keys() == thrifty.keys()
    for key, value in plain.items():
        assert torch.allclose(value, thrifty[key], atol=1e-6), key
    assert kept(nets[1]) < kept(nets[0])


def test_stages_are_found_where_activations_are_computed_again() -> None:
    torch.manual_seed(0)
    plain = build_network(settings.model("resnet18"), 3).train()
    thrifty = build_network(settings.model("resnet18", backbone__checkpointing=True), 3).train()
    before = copy_of(thrifty)
    assert stages(thrifty) == stages(plain)
    assert not changed(before, thrifty.state_dict())
    assert thrifty.backbone.training


def test_freezing_for_no_epoch_is_refused() -> None:
    with pytest.raises(UserError, match="epochs=0: give at least 1"):
        Freeze(["backbone"], epochs=0)


def test_drop_path_acts_in_training_alone() -> None:
    nets = {rate: network(backbone__args={"drop_path_rate": rate}) for rate in (0.0, 0.9)}
    for net in nets.values():
        for norm in batch_norms(net):
            nn.init.ones_(norm.weight)  # timm begins with those that end a block at 0: nothing to drop yet
    image = torch.rand(2, 3, 64, 64)
    plain, dropped = (net.eval()(image) for net in nets.values())
    assert torch.equal(plain, dropped)
    outputs = []
    for net in nets.values():
        torch.manual_seed(3)
        outputs.append(net.train()(image))
    assert not torch.allclose(*outputs)


def test_a_backbone_without_drop_path_says_so() -> None:
    with pytest.raises(UserError, match="drop_path_rate"):
        build_network(settings.model("vgg11", backbone__args={"drop_path_rate": 0.1}), 3)
