"""Logits and labels with all that makes a loss of pixels hard to get right, in plain float64."""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

VOID = 255
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def example(seed: int = 0, classes: int = 4) -> tuple[Floats, Labels]:
    """Logits, and labels in regions with a band and single pixels of void; one image lacks a class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (3, 3, 4)).repeat(4, 1).repeat(4, 2)
    labels[2][labels[2] == 1] = 0
    labels[:, 5:7] = VOID
    labels[rng.random(labels.shape) < 0.05] = VOID
    return rng.normal(0, 2, (3, classes, *labels.shape[1:])), labels


def probabilities(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    result: Floats = powers / powers.sum(1, keepdims=True)
    return result


def value(loss: nn.Module, logits: Floats, labels: Labels) -> float:
    return float(loss(torch.from_numpy(logits), torch.from_numpy(labels)))
