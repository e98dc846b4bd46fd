"""Optimizers with a learning rate of their own for the backbone, and schedules over the steps of a training."""

from collections.abc import Mapping
from typing import Any

import torch
from hydra.utils import get_class
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
)

from segmentation.errors import UserError
from segmentation.models.network import Network
from segmentation.models.stages import stages
from segmentation.targets import by_name

# With one kernel for all parameters, on CPUs and GPUs alike in every torch that is supported.
FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def optimizer_class(name: str) -> type[Optimizer]:
    """The class behind `optimizer.name`: one of torch.optim's, or a dotted path to another."""
    known = {key: value for key, value in vars(torch.optim).items() if isinstance(value, type) and key != "Optimizer"}
    return by_name(
        name,
        known,
        get_class,
        unknown=f"optimizer.name: torch.optim has no {name!r}",
        unloadable=f"optimizer.name: cannot import {name!r}; give a class that Python can import",
    )


def build_optimizer(
    network: nn.Module, config: Mapping[str, Any], *, aux: nn.Module | None = None, fused: bool = True
) -> Optimizer:
    """An optimizer over two groups: the backbone at `lr * backbone_lr_factor`, and everything else at `lr`.

    With `layer_decay`, a group for each stage of the backbone: that of the last at this rate, each before it at
    `layer_decay` times the rate of the one after it (as ELECTRA, Clark et al., 2020, has it by layer).

    Args:
        network: has its backbone under `backbone`.
        config: name, lr, backbone_lr_factor, layer_decay, weight_decay, args, as in `OptimizerConfig`.
        aux: heads beside the network, at `lr`.
        fused: one kernel for all parameters, where the optimizer has it and `args` do not say otherwise.
    """
    trainable = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    backbone = {
        name.removeprefix("backbone."): parameter for name, parameter in trainable if name.startswith("backbone.")
    }
    rest = [parameter for name, parameter in trainable if not name.startswith("backbone.")]
    groups = [
        {"params": rest, "lr": config["lr"], "name": "head"},
        *backbone_groups(network, backbone, config["lr"] * config["backbone_lr_factor"], config["layer_decay"]),
        {"params": list(aux.parameters()) if aux else [], "lr": config["lr"], "name": "aux"},
    ]
    chosen = optimizer_class(config["name"])
    keywords = {"lr": config["lr"], "weight_decay": config["weight_decay"], **config["args"]}
    if fused and chosen in FUSED and not {"foreach", "fused", "differentiable"} & set(keywords):
        keywords["fused"] = True
    try:
        return chosen([group for group in groups if group["params"]], **keywords)
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        raise UserError(f"optimizer: {config['name']} refuses its arguments: {error}") from error


def backbone_groups(
    network: nn.Module, parameters: Mapping[str, nn.Parameter], lr: float, decay: float
) -> list[dict[str, Any]]:
    """One group of the backbone's parameters, or one for each stage where the rate differs between them."""
    if not 0 < decay <= 1:
        raise UserError(f"optimizer.layer_decay={decay}: give more than 0 and at most 1, which is none")
    if decay == 1 or not parameters:
        return [{"params": list(parameters.values()), "lr": lr, "name": "backbone"}]
    assert isinstance(network, Network)
    stage_of = stages(network)
    last = max(stage_of.values())
    return [
        {
            "params": [parameter for name, parameter in parameters.items() if stage_of[name] == stage],
            "lr": lr * decay ** (last - stage),
            "name": f"backbone.{stage}",
        }
        for stage in range(last + 1)
    ]


def constant(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The same learning rate from the first step to the last."""
    return LinearLR(optimizer, start_factor=1.0, total_iters=total_steps)


def polynomial(optimizer: Optimizer, total_steps: int, *, power: float) -> LRScheduler:
    """`lr * (1 - step / total_steps) ** power`, the schedule of DeepLab (Chen et al., 2017)."""
    return PolynomialLR(optimizer, total_iters=total_steps, power=power)


def cosine(optimizer: Optimizer, total_steps: int, *, warmup: float) -> LRScheduler:
    """A linear rise over the share `warmup` of the steps, then half a cosine to zero (Loshchilov & Hutter, 2017)."""
    rise = int(warmup * total_steps)
    fall = CosineAnnealingLR(optimizer, T_max=max(1, total_steps - rise))
    if rise == 0:
        return fall
    return SequentialLR(optimizer, [LinearLR(optimizer, start_factor=1 / rise, total_iters=rise), fall], [rise])


def one_cycle(optimizer: Optimizer, total_steps: int, *, warmup: float) -> LRScheduler:
    """Up to the optimizer's rates over the share `warmup` of the steps, then far below (Smith & Topin, 2018)."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    # A fast_dev_run has one step, and OneCycleLR divides by the steps of its last phase less one.
    return OneCycleLR(optimizer, max_lr=peaks, total_steps=max(2, total_steps), pct_start=warmup)
