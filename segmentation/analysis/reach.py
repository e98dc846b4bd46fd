"""How far a network sees: the effective receptive field of one output position, and how influence falls with distance.

The effective receptive field is that of Luo et al. (2016): the gradient of one output over the input.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.integer]


class Fields(NamedTuple):
    """How much one output depends on each place before it: absolute gradients, summed over the channels."""

    image: Tensor  # [H, W], over the input's pixels
    slot: Tensor  # [h, w], over the map that enters the LSTM, or what stands in its place


def influence(network: nn.Module, slot: nn.Module, image: Tensor) -> Fields:
    """The fields of the predicted class's logit at the middle pixel, (H // 2, W // 2).

    Args:
        network: images [1, N, H, W] to logits [1, classes, H, W], in evaluation mode.
        slot: the part of it that mixes the map.
        image: [1, N, H, W].
    """
    entering: list[Tensor] = []
    handle = slot.register_forward_hook(lambda module, inputs, output: entering.append(inputs[0]))
    # A test runs in inference mode; and cuDNN has no backward pass for recurrent networks in evaluation mode.
    with torch.inference_mode(False), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        image = image.clone().requires_grad_()
        try:
            logits = network(image)
        finally:
            handle.remove()
        score = logits[0, :, logits.shape[-2] // 2, logits.shape[-1] // 2].max()
        gradients = torch.autograd.grad(score, [image, entering[0]], allow_unused=True, materialize_grads=True)
    return Fields(*(gradient[0].float().abs().sum(0) for gradient in gradients))


def falloff(field: Values, distances: Values) -> tuple[Values, Values]:
    """Distances, rounded to whole ones, and the mean influence of the places that far away; NaN distances count not."""
    known = ~np.isnan(distances)
    rounded = np.rint(distances[known]).astype(int)
    counts = np.bincount(rounded)
    sums = np.bincount(rounded, weights=field[known])
    there = counts > 0
    return np.flatnonzero(there).astype(np.float64), sums[there] / counts[there]


def plane_distances(shape: tuple[int, int]) -> Values:
    """Distance of every pixel [H, W] from the middle one."""
    rows, columns = np.indices(shape)
    return np.asarray(np.hypot(rows - shape[0] // 2, columns - shape[1] // 2))


def scan_distances(sequences: Indices, steps: Indices, middle: tuple[int, int]) -> Values:
    """Steps of the scan [h, w] between every position and the middle one; NaN in other sequences."""
    away = np.abs(steps - steps[middle]).astype(np.float64)
    return np.where(sequences == sequences[middle], away, np.nan)


def radius(field: Values, share: float) -> float:
    """Pixels around the middle within which this share of the influence lies."""
    distances = plane_distances(field.shape)
    order = np.argsort(distances, axis=None)
    reached = np.cumsum(field.flatten()[order]) / field.sum()
    return float(distances.flatten()[order][np.searchsorted(reached, share)])


def shrink(field: Values, factor: int) -> Values:
    """A field [H, W] summed over squares of `factor` x `factor`, those at the far ends smaller, as pooling has them."""
    sums = np.add.reduceat(field, range(0, field.shape[0], factor), axis=0)
    return np.asarray(np.add.reduceat(sums, range(0, field.shape[1], factor), axis=1))
