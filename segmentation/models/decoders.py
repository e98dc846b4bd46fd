"""Decoders: what turns a backbone's maps into the one that is scanned and classified.

A decoder's `_target_` is called as segmentation_models_pytorch's models are, and only its `encoder` (timm's model) and
its `decoder` are kept: so any of them is one YAML.
"""

import functools
import inspect
import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch
from hydra.utils import get_object, instantiate
from segmentation_models_pytorch.encoders import get_encoder
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from segmentation.errors import UserError
from segmentation.models.backbones import check_name, weights_keywords

MULTIPLE = 32  # pixels: the coarsest map of any backbone must come out whole
SIDES = (64, 128, 256)  # square inputs tried in turn to find the smallest that a decoder can take


class Features(NamedTuple):
    """A backbone and a decoder that fit, and what they make of an image."""

    backbone: nn.Module  # image [B, C, H, W] to a list of maps
    decoder: nn.Module  # the list of maps to one map [B, channels, H / stride, W / stride]
    channels: int
    stride: int
    minimum: int  # pixels: the shortest side that the decoder can take


class FCN(nn.Module):
    """The last map of the backbone goes straight on to the scan and the classifier (Long et al., 2015, without skips).

    Takes the keywords of segmentation_models_pytorch's models, of which it needs only the encoder's.
    """

    def __init__(
        self,
        encoder_name: str,
        encoder_weights: bool | None = None,
        encoder_output_stride: int = MULTIPLE,
        in_channels: int = 3,
        classes: int = 1,
        **timm_keywords: Any,
    ) -> None:
        super().__init__()
        self.encoder = get_encoder(
            encoder_name,
            in_channels=in_channels,
            weights=encoder_weights,
            output_stride=encoder_output_stride,
            **timm_keywords,
        )
        self.decoder = LastMap()


class FPN(smp.FPN):  # type: ignore[misc]  # it publishes no types
    """segmentation_models_pytorch's FPN (Kirillov et al., 2019), which adds up its four maps without stacking them.

    The stack took a fifth of the time of a whole forward pass on a CPU, and the memory of four maps.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        if self.decoder.merge.policy == "add":
            self.decoder.merge = Sum()


class Sum(nn.Module):
    """Several maps of one shape to their sum."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        return functools.reduce(torch.add, maps)


class LastMap(nn.Module):
    """A list of maps to the last, which is the deepest."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return features[-1]


def build_features(
    backbone: Mapping[str, Any], decoder: Mapping[str, Any], channels: int = 3, *, load_weights: bool
) -> Features:
    """Build backbone and decoder together, since a decoder's layers follow from the backbone's channels.

    Args:
        backbone: name, weights, output_stride, args, as in `BackboneConfig`.
        decoder: `_target_` and keywords of a model of segmentation_models_pytorch, or of one that is called alike.
        channels: of the images.
        load_weights: False leaves the backbone as initialised, for weights that are loaded afterwards.

    Raises:
        UserError: for a name timm does not have, and a pair that does not fit.
    """
    name = backbone["name"]
    check_name(name)
    for group, keywords in (("backbone.args", backbone["args"]), ("decoder", decoder)):
        for key in keywords:
            if key.startswith("pretrained") or key in ("checkpoint_path", "cache_dir", "encoder_weights"):
                raise UserError(f"{group}.{key}: where weights come from is for backbone.weights to say; leave it out")
    weights = weights_keywords(name, backbone["weights"]) if load_weights else {}
    pretrained = weights.pop("pretrained", None)
    try:
        keywords = named_for(decoder["_target_"], {"output_stride": backbone["output_stride"], **backbone["args"]})
        model = instantiate(
            decoder,
            encoder_name=f"tu-{name}",
            encoder_weights=pretrained,
            in_channels=channels,
            classes=1,
            _convert_="all",
            **keywords,
            **weights,
        )
        drop_unread_stages(model.encoder)
        if backbone.get("checkpointing"):  # saved models do not say: it is a matter of training
            checkpoint_gradients(model.encoder, name)
        width, stride, minimum = probe(model.encoder, model.decoder, channels)
    except UserError:
        raise
    except Exception as error:
        part = decoder["_target_"].rpartition(".")[2]
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        if backbone["weights"] == "pretrained" and isinstance(error.__cause__ or error, OSError):
            raise UserError(f"backbone.weights=pretrained: the download failed ({reason}); try again") from error
        raise UserError(
            f"decoder: {part} cannot take the backbone {name} at output_stride {backbone['output_stride']} ({reason}); "
            "choose another decoder (decoder=fcn takes all), backbone, backbone.args or output_stride"
        ) from error
    return Features(model.encoder, model.decoder, width, stride, minimum)


def checkpoint_gradients(encoder: nn.Module, name: str) -> None:
    """Let timm's model compute its activations again in the backward pass instead of keeping them."""
    try:
        encoder.get_submodule("model").set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        raise UserError(f"backbone.checkpointing=true: timm's {name} cannot do that; leave it off") from error


def named_for(target: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """`output_stride` and `depth` as this decoder's model calls them; an `output_stride` of None is its own.

    A function gets what it does not name itself as it is.
    """
    called = get_object(target)
    parts = inspect.getmro(called)[:-1] if isinstance(called, type) else (called,)
    known = {name for part in parts for name in parameters(part)}
    renamed = {key: f"encoder_{key}" for key in ("output_stride", "depth") if f"encoder_{key}" in known}
    return {renamed.get(key, key): value for key, value in keywords.items() if (key, value) != ("output_stride", None)}


def parameters(called: Any) -> set[str]:
    """The names of what a class or function can be called with; none where Python does not know."""
    try:
        return set(inspect.signature(called).parameters)
    except ValueError:  # written in C
        return set()


def probe(backbone: nn.Module, decoder: nn.Module, channels: int) -> tuple[int, int, int]:
    """Channels and stride of the decoder's map, and the shortest side it can take: found by trying, not by a table.

    Parameters that the map does not depend on (stages behind the last map that the decoder reads) are frozen: no
    gradient ever reaches them, and data-parallel training would wait for it.
    """
    training = backbone.training, decoder.training
    backbone.eval()
    decoder.eval()
    try:
        for side in SIDES:
            try:
                features = decoder(backbone(torch.zeros(1, channels, side, side)))
                break
            except RuntimeError:
                if side == SIDES[-1]:
                    raise
        features.sum().backward()
    finally:
        backbone.train(training[0])
        decoder.train(training[1])
    for parameter in itertools.chain(backbone.parameters(), decoder.parameters()):
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    return features.shape[1], math.ceil(side / features.shape[-1]), side


def drop_unread_stages(encoder: nn.Module) -> None:
    """Cut the stages behind the last map off timm's EfficientNets and MobileNets: they are computed and discarded.

    Most of timm's other networks leave them out themselves where fewer maps are asked for (`backbone.args.depth`, or by
    a decoder that reads fewer).
    """
    model = getattr(encoder, "model", None)
    if isinstance(model, EfficientNetFeatures | MobileNetV3Features) and model.feature_hooks is None:
        model.blocks = model.blocks[: max(info["stage"] for info in model.feature_info.get_dicts())]
