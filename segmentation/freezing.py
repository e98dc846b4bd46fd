"""Callbacks that keep parts of a network as they are, for a while or for the whole training."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytorch_lightning as pl
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from segmentation.errors import UserError, nearest
from segmentation.models.network import Network
from segmentation.models.stages import stages
from segmentation.task import Task


class Freeze(pl.Callback):
    """Neither gradients nor weight decay reach these parts, and their batch norms keep their statistics.

    What is frozen for ever is left out of the optimizer and of the backward pass. What comes alive later is in both all
    the time, since data-parallel training must know of it from the start; its gradients are thrown away until then.

    Args:
        parts: modules of the network, such as `backbone` or `backbone.model.layer1`.
        backbone_stages: freeze so many of the backbone's stages, the first ones.
        epochs: that they stay frozen; None for the whole training.
    """

    def __init__(self, parts: Sequence[str] = (), backbone_stages: int = 0, epochs: int | None = None) -> None:
        if epochs is not None and epochs < 1:
            raise UserError(f"callbacks: freezing for epochs={epochs}: give at least 1, or null for ever")
        parts = [parts] if isinstance(parts, str) else parts
        self.parts, self.backbone_stages, self.epochs = tuple(parts), backbone_stages, epochs
        self.frozen: list[nn.Parameter] = []
        self.norms: list[_BatchNorm] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        assert isinstance(pl_module, Task)
        network = pl_module.network
        chosen = {id(parameter) for part in self.parts for parameter in find_part(network, part).parameters()}
        if self.backbone_stages:
            found = stages(network)
            least, most = 1, len(set(found.values()))
            if not least <= self.backbone_stages <= most:
                raise UserError(f"callbacks: backbone_stages={self.backbone_stages}: this backbone has {most} stages")
            first = {name for name, place in found.items() if place < self.backbone_stages}
            chosen |= {id(parameter) for name, parameter in network.backbone.named_parameters() if name in first}
        if not chosen:
            raise UserError("callbacks: nothing to freeze; give parts or backbone_stages")
        self.frozen = [parameter for parameter in network.parameters() if id(parameter) in chosen]
        if self.epochs is None and len(self.frozen) == sum(
            parameter.requires_grad for parameter in network.parameters()
        ):
            raise UserError("callbacks: the whole network is frozen, and nothing is left to train")
        self.norms = [norm for norm in batch_norms(network) if all(id(own) in chosen for own in norm.parameters())]
        if self.epochs is None:
            for parameter in self.frozen:
                parameter.requires_grad_(False)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._active(trainer):
            hold(self.norms)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == self.epochs:  # they come alive
            for norm in self.norms:
                norm.train()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        if self._active(trainer):
            for parameter in self.frozen:
                parameter.grad = None  # optimizers pass over these: no step, no decay

    def _active(self, trainer: pl.Trainer) -> bool:
        return self.epochs is None or trainer.current_epoch < self.epochs


class FreezeBatchNorm(pl.Callback):
    """Every batch norm keeps its statistics, scale and shift, as is usual for small batches from pretrained weights."""

    def __init__(self) -> None:
        self.norms: list[_BatchNorm] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        assert isinstance(pl_module, Task)
        self.norms = list(batch_norms(pl_module.network))
        if not self.norms:
            raise UserError("callbacks: this network has no batch norm to freeze")
        for norm in self.norms:
            norm.requires_grad_(False)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        hold(self.norms)


def batch_norms(network: nn.Module) -> Iterable[_BatchNorm]:
    """Its batch norms, timm's and synchronised ones among them."""
    return (module for module in network.modules() if isinstance(module, _BatchNorm))


def hold(norms: Iterable[_BatchNorm]) -> None:
    """Let them use their statistics and not gather new ones; asked before every step, since validation resets modes."""
    for norm in norms:
        norm.eval()


def find_part(network: Network, name: str) -> nn.Module:
    """A module of the network by its dotted name, or a UserError with the nearest ones."""
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if name not in modules or not name:
        raise UserError(
            f"callbacks: the network has no part {name!r}; {nearest(name, [known for known in modules if known])}"
        )
    return modules[name]
