"""Optimizer groups and schedules: each option changes what the optimizer does."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from segmentation import optim
from segmentation.errors import UserError
from segmentation.models.network import build_network
from segmentation.optim import build_optimizer
from tests.settings import model

BASE: dict[str, Any] = {
    "name": "SGD",
    "lr": 0.1,
    "backbone_lr_factor": 1.0,
    "layer_decay": 1.0,
    "weight_decay": 0.0,
    "args": {},
}


def network() -> nn.Module:
    return nn.ModuleDict({"backbone": nn.Linear(2, 2), "classifier": nn.Linear(2, 2)})


def test_every_parameter_once_and_the_backbone_at_its_own_rate() -> None:
    model = network()
    optimizer = optim.build_optimizer(model, BASE | {"backbone_lr_factor": 0.1})
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.01 if name.startswith("backbone") else 0.1)


def test_options_reach_the_optimizer() -> None:
    optimizer = optim.build_optimizer(network(), BASE | {"weight_decay": 0.3, "args": {"momentum": 0.7}})
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.3}
    assert {group["momentum"] for group in optimizer.param_groups} == {0.7}


def test_frozen_parameters_are_left_out() -> None:
    model = network()
    model.get_submodule("backbone").requires_grad_(False)
    assert [group["name"] for group in optim.build_optimizer(model, BASE).param_groups] == ["head"]


@pytest.mark.parametrize("name", ["AdamW", "RMSprop", "torch.optim.Adagrad"])
def test_any_of_torchs_by_name(name: str) -> None:
    assert type(optim.build_optimizer(network(), BASE | {"name": name})).__name__ == name.rpartition(".")[2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "AdamX"}, "did you mean 'Adam"),
        ({"args": {"momentun": 1}}, "momentun"),
        ({"lr": -1.0}, "learning rate"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        optim.build_optimizer(network(), BASE | change)


def rates(schedule: Callable[[Optimizer, int], LRScheduler], steps: int = 20) -> list[float]:
    optimizer = optim.build_optimizer(network(), BASE)
    scheduler = schedule(optimizer, steps)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_schedules_have_their_shapes() -> None:
    assert set(rates(optim.constant)) == {0.1}
    polynomial = rates(lambda optimizer, steps: optim.polynomial(optimizer, steps, power=0.9))
    assert polynomial == pytest.approx([0.1 * (1 - step / 20) ** 0.9 for step in range(20)])
    cosine = rates(lambda optimizer, steps: optim.cosine(optimizer, steps, warmup=0.25))
    assert cosine[:5] == sorted(cosine[:5])
    assert cosine[5:] == sorted(cosine[5:], reverse=True)
    assert max(cosine) == pytest.approx(0.1)
    cycle = rates(lambda optimizer, steps: optim.one_cycle(optimizer, steps, warmup=0.5))
    assert max(cycle) == pytest.approx(0.1, rel=0.01)
    assert cycle[-1] < cycle[0] < max(cycle)


def test_options_change_the_schedule() -> None:
    for schedule, option in ((optim.polynomial, "power"), (optim.cosine, "warmup"), (optim.one_cycle, "warmup")):
        curves = [rates(lambda o, s, v=value: schedule(o, s, **{option: v})) for value in (0.2, 0.8)]  # type: ignore[misc]  # noqa: B023
        assert curves[0] != curves[1]


def test_one_step_is_enough_for_every_schedule() -> None:
    for schedule in (
        optim.constant,
        lambda o, s: optim.polynomial(o, s, power=0.9),
        lambda o, s: optim.cosine(o, s, warmup=0.3),
        lambda o, s: optim.one_cycle(o, s, warmup=0.3),
    ):
        assert torch.tensor(rates(schedule, 1)).isfinite().all()


def test_arguments_that_an_optimizer_cannot_take_are_said() -> None:
    network = build_network(model("test_resnet"), 3)
    config = {"name": "AdamW", "lr": 0.1, "backbone_lr_factor": 1.0, "layer_decay": 1.0, "weight_decay": 0.0}
    for betas in ("", [0.9], 3):
        with pytest.raises(UserError, match="optimizer: AdamW refuses its arguments"):
            build_optimizer(network, config | {"args": {"betas": betas}})
