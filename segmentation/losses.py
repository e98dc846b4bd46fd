"""Losses of `loss=`: each maps logits [B, C, H, W] and labels [B, H, W] to a scalar; void pixels contribute nothing.

Dice, focal and Lovász losses are segmentation_models_pytorch's, named directly in `conf/loss/`; the one of boundaries
has its own module.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.errors import UserError


class CrossEntropy(nn.Module):
    """Mean cross-entropy over the labelled pixels, each weighted by its class.

    Args:
        ignore_index: label of void pixels.
        class_weights: a weight for each class, or None for equal ones.
        label_smoothing: share of each target spread evenly over all classes.
    """

    weight: Tensor | None

    def __init__(
        self, *, ignore_index: int, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits [B, C, H, W] and labels [B, H, W] to a scalar; zero where every pixel is void."""
        if self.weight is not None and len(self.weight) != logits.shape[1]:
            raise UserError(
                f"loss.class_weights: {len(self.weight)} weights for {logits.shape[1]} classes; give one for each class"
            )
        pixels, labels = logits, target
        if torch.are_deterministic_algorithms_enabled():  # on GPUs, for maps there is no such form: for a list there is
            pixels, labels = logits.movedim(1, -1).flatten(0, -2), target.flatten()
        total = F.cross_entropy(
            pixels,
            labels,
            self.weight,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        valid = target != self.ignore_index
        if self.weight is None:
            return total / valid.sum().clamp(min=1)
        share = self.weight[torch.where(valid, target, 0)] * valid
        return total / share.sum().clamp(min=torch.finfo(share.dtype).tiny)


class HardestPixels(nn.Module):
    """Mean cross-entropy over the hardest of the labelled pixels of a batch: online hard example mining (Shrivastava et
    al., 2016), for pixels as Wu et al. (2016) have it. Several processes choose among their own pixels each.

    Args:
        ignore_index: label of void pixels.
        thresh: a pixel is hard where the probability of its true class is below.
        keep: at least this share of the labelled pixels counts, those of the highest loss, however easy they are.
    """

    def __init__(self, *, ignore_index: int, thresh: float = 0.7, keep: float = 0.1) -> None:
        super().__init__()
        for name, value in {"thresh": thresh, "keep": keep}.items():
            if not 0 <= value <= 1:
                raise UserError(f"loss.{name}={value}: give 0 to 1")
        self.ignore_index, self.keep = ignore_index, keep
        self.hard = -math.log(thresh) if thresh > 0 else math.inf

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits [B, C, H, W] and labels [B, H, W] to a scalar; zero where every pixel is void."""
        losses = F.cross_entropy(logits, target, ignore_index=self.ignore_index, reduction="none").flatten()
        least = (self.keep * (target != self.ignore_index).sum()).long()
        count = torch.maximum((losses > self.hard).sum(), least).clamp(min=1)
        # Sorted, so that the device alone knows how many they are; void pixels have no loss and come last.
        chosen = torch.arange(len(losses), device=losses.device) < count
        return (losses.sort(descending=True).values * chosen).sum() / count


class Labelled(nn.Module):
    """A loss that is zero, instead of undefined, where every pixel of the batch is void.

    Args:
        loss: leaves void pixels out by itself.
        ignore_index: label of void pixels.
    """

    def __init__(self, loss: nn.Module, *, ignore_index: int) -> None:
        super().__init__()
        self.loss = loss
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits [B, C, H, W] and labels [B, H, W] to a scalar."""
        # Any label will do where none counts; asking whether that is so would make the host wait for the device.
        void = (target == self.ignore_index).all()
        label = 1 if self.ignore_index == 0 else 0
        value: Tensor = self.loss(logits, torch.where(void, label, target)) * ~void
        return value


class WeightedSum(nn.Module):
    """A weighted sum of losses.

    Args:
        terms: name -> loss.
        weights: name -> factor, for the same names.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        if set(terms) != set(weights):
            raise UserError(
                f"loss.weights names {sorted(weights)} but loss.terms are {sorted(terms)}; give each term one weight"
            )
        self.terms = nn.ModuleDict(dict(terms))
        self.weights = dict(weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits [B, C, H, W] and labels [B, H, W] to a scalar."""
        return torch.stack([self.weights[name] * loss(logits, target) for name, loss in self.terms.items()]).sum()
