"""The composed network: image - backbone - decoder - lstm - classifier - upsample - logits."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.models.backbones import normalisation
from segmentation.models.decoders import MULTIPLE, Features, build_features
from segmentation.models.dilated import mend_dilated
from segmentation.models.hastened import hasten
from segmentation.targets import build

Size = tuple[int, int]


class Inputs(NamedTuple):
    """What a network is fed."""

    channels: int = 3
    mean: Sequence[float] | None = None  # of each; None: the backbone's, see `normalisation`
    std: Sequence[float] | None = None


RGB = Inputs()


class Network(nn.Module):
    """Images in 0...1, of RGB unless it was built for other channels, to class logits.

    Args:
        features: a backbone and a decoder that fit.
        mean: of the backbone's inputs, [1, C, 1, 1].
        std: likewise.
        lstm: a map [B, C, H, W] to one of the same shape.
        classifier: that map to logits [B, classes, H, W].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: Features, mean: Tensor, std: Tensor, lstm: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.minimum = features.minimum
        self.backbone = features.backbone
        self.decoder = features.decoder
        self.lstm = lstm
        self.classifier = classifier

    @property
    def channels(self) -> int:
        """Of the images."""
        return self.mean.shape[1]

    def forward(self, image: Tensor, size: Size | None = None) -> Tensor:
        """Images [B, C, H, W] in 0...1, of any size, to float32 logits [B, classes, *size], by default theirs.

        What the network's strides need is padded inside, and cut off before the logits are brought to `size`.
        """
        height, width = image.shape[-2:]
        padded = self.pad((image - self.mean) / self.std)
        features = self.lstm(self.decoder(self.backbone(padded)))
        logits = self.classifier(features).float()
        logits = F.interpolate(logits, padded.shape[-2:], mode="bilinear", align_corners=False)
        logits = fit(logits, height, width) if is_symbol(height, width) else logits[..., :height, :width]
        if size is not None and tuple(size) != (height, width):
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        return logits

    def pad(self, image: Tensor) -> Tensor:
        """Repeat the last row and column until both sides are long enough and divide by the coarsest stride."""
        sides = [larger(self.minimum, (side + MULTIPLE - 1) // MULTIPLE * MULTIPLE) for side in image.shape[-2:]]
        if is_symbol(*image.shape[-2:]):
            return fit(image, *sides)
        bottom, right = (wanted - side for wanted, side in zip(sides, image.shape[-2:], strict=True))
        return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image


def build_network(
    model: Mapping[str, Any], num_classes: int, inputs: Inputs = RGB, *, load_weights: bool = True
) -> Network:
    """The network that a configuration describes.

    Args:
        model: `backbone`, `decoder` and `lstm`, as plain containers with the keys of `segmentation.config`.
        num_classes: of the logits.
        inputs: what it is fed; weights of RGB are adapted by timm.
        load_weights: False leaves the backbone as initialised, for weights that are loaded afterwards.
    """
    features = build_features(model["backbone"], model["decoder"], inputs.channels, load_weights=load_weights)
    # Before the LSTM, whose initialisation draws random numbers: with the same seed, all but it starts the same.
    classifier = nn.Conv2d(features.channels, num_classes, 1)
    lstm = build(model["lstm"], "lstm", channels=features.channels, map_stride=features.stride, _convert_="all")
    usual = normalisation(model["backbone"]["name"], inputs.channels)
    mean, std = (
        found if given is None else torch.tensor(given).view(1, -1, 1, 1)
        for found, given in zip(usual, (inputs.mean, inputs.std), strict=True)
    )
    network = Network(features, mean, std, lstm, classifier)
    mend_dilated(network)
    hasten(network)
    return network


def is_symbol(*lengths: int) -> bool:
    """Whether one of them stands for any length, in a graph that is traced for all sizes. Such a graph may not ask
    which sizes need padding, and slices and `F.pad` ask.
    """
    return any(isinstance(length, torch.SymInt) for length in lengths)


def fit(image: Tensor, height: int, width: int) -> Tensor:
    """[B, C, H, W] cut to this size, or its last row and column repeated, without asking which."""
    for dimension, side in ((-2, height), (-1, width)):
        positions = torch.arange(side, device=image.device).clamp(max=image.shape[dimension] - 1)
        image = image.index_select(dimension, positions)
    return image


def larger(least: int, side: int) -> int:
    """The larger of two lengths, the second of which may be a symbol."""
    found: Any = torch.sym_max(least, side) if is_symbol(side) else max(least, side)
    return found  # type: ignore[no-any-return]  # a symbol behaves as the int that it stands for
