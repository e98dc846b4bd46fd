"""Batch norm over all processes of a training, so that several small batches norm like one large one.

Lightning's own plugin calls torch's conversion, which turns timm's norm-and-activation layers into plain norms and so
loses the activations; and torch's synchronised norm knows GPUs only. Here a layer keeps its tensors and changes class.
"""

from typing import Any

import torch
from pytorch_lightning.plugins import LayerSync
from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct
from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.models.hastened import HASTENED


class Sum(torch.autograd.Function):
    """A tensor summed over all processes; its gradient likewise."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Sum.forward(ctx, gradient)


class SummedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics are summed over all processes, on any device that they can talk from."""

    def forward(self, x: Tensor) -> Tensor:
        return summed_norm(self, x)


class SummedBatchNormAct(BatchNormAct2d):
    """The same, with timm's activation behind it."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.act(self.drop(summed_norm(self, x)))
        return result


Table = dict[type[nn.Module], type[nn.Module]]


def hastened_too(table: Table) -> Table:
    """Layers' own classes and what they become, and the same for hastened ones: the last, which layers return to."""
    return table | {HASTENED[own]: synced for own, synced in table.items()}


CPU = hastened_too({nn.BatchNorm2d: SummedBatchNorm, BatchNormAct2d: SummedBatchNormAct})
GPU = hastened_too({nn.BatchNorm2d: nn.SyncBatchNorm, BatchNormAct2d: SyncBatchNormAct})


class SyncedBatchNorm(LayerSync):
    """What Lightning calls before and after a training on several processes."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Give every batch norm the class that talks to the other processes."""
        on_cpu = next(model.parameters()).device.type == "cpu"
        return change_classes(model, CPU if on_cpu else GPU)

    def revert(self, model: nn.Module) -> nn.Module:
        """Give every batch norm its own class back."""
        return change_classes(model, {synced: own for table in (CPU, GPU) for own, synced in table.items()})


def change_classes(model: nn.Module, table: Table) -> nn.Module:
    """Modules of a class in the table become modules of the class it leads to, with all that they hold."""
    for module in model.modules():
        if type(module) in table:
            module.__class__ = table[type(module)]
            vars(module)["process_group"] = None  # torch's synchronised norm reads it: None is all processes
    return model


def summed_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """[B, C, H, W] normed over the batches of all processes; in float64, since squares are summed."""
    if not norm.training:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.momentum is not None
    values, channels = x.double(), norm.num_features
    count = values.new_tensor([values.numel() / values.shape[1]])
    sums = torch.cat([values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), count])
    summed: Tensor = Sum.apply(sums)
    total, squares, number = summed[:channels], summed[channels:-1], summed[-1]
    mean = total / number
    variance = squares / number - mean.square()
    with torch.no_grad():
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        unbiased = variance * number / (number - 1)
        norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), norm.momentum)
    normed: Tensor = (values - mean[:, None, None]) / (variance + norm.eps).sqrt()[:, None, None]
    return (normed * norm.weight[:, None, None] + norm.bias[:, None, None]).to(x.dtype)
