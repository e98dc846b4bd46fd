"""From images as arrays to class probabilities, in the way that a command's options say."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from segmentation.config import WindowConfig
from segmentation.data.augment import resize_image
from segmentation.data.images import Pixels
from segmentation.errors import UserError, nearest
from segmentation.inference.augmented import Augmented
from segmentation.inference.windows import Part, Windowed, unit

MODES = ("resize", "window")
FALLBACK = (512, 512)  # a window's size where neither the options nor the model have one


def augmented(network: nn.Module, options: Mapping[str, Any]) -> nn.Module:
    """A network with the test-time augmentation of `tta`, itself where there is none."""
    tta = options["tta"]
    if not tta["flip"] and list(tta["scales"]) == [1]:
        return network
    return Augmented(network, flip=tta["flip"], scales=tta["scales"])


def windowed(network: nn.Module, options: Mapping[str, Any], size: Sequence[int] | None) -> Windowed | None:
    """A network that sees images through the windows of `window`, or None where `mode` does not ask for them.

    Args:
        network: images to logits.
        options: `mode`, `window` and `batch_size`, as in `InferenceConfig`.
        size: of the images in training, a window's size unless the options have one.
    """
    if options["mode"] not in MODES:
        raise UserError(f"mode={options['mode']}: no such choice; {nearest(options['mode'], MODES)}")
    if options["batch_size"] < 1:
        raise UserError(f"batch_size={options['batch_size']}: give at least 1")
    window = options["window"]
    if options["mode"] == "resize":
        if window != asdict(WindowConfig()):
            raise UserError("window: without mode=window no windows are cut; add it")
        return None
    height, width = window["size"] or size or FALLBACK
    return Windowed(network, (height, width), window["overlap"], options["batch_size"])


def as_asked(
    network: nn.Module, options: Mapping[str, Any], size: Sequence[int] | None
) -> Callable[[Tensor, tuple[int, int]], Tensor]:
    """A function of images [B, N, H, W] and the size of the logits that calls a network as the options say."""
    inner = augmented(network, options)
    outer = windowed(inner, options, size) or inner
    return lambda image, size: outer(image, size=size)


class Predictor:
    """A model with everything between an image file's pixels and its class probabilities.

    Args:
        network: images [B, N, H, W] in 0...1 to logits.
        size: of the images in training, to which `mode=resize` brings them; None for their own.
        device: where to compute.
        options: as in `InferenceConfig`.
    """

    def __init__(
        self, network: nn.Module, size: Sequence[int] | None, device: torch.device, options: Mapping[str, Any]
    ) -> None:
        self.network = augmented(network.to(device).eval(), options)
        self.windowed = windowed(self.network, options, size)
        self.size = None if size is None else list(size)
        self.device = device

    def forwards(self, image: Pixels) -> int:
        """In how many pieces an image [H, W, N] is seen."""
        return 1 if self.windowed is None else self.windowed.count(*image.shape[:2])

    def batch(self, images: Sequence[Pixels]) -> list[Tensor]:
        """Probabilities [C, H, W] of images [H, W, N] of one size, seen whole in one forward."""
        resized = torch.stack([self.tensor(resize_image(image, self.size)) for image in images])
        with torch.inference_mode():
            return list(self.network(unit(resized), size=images[0].shape[:2]).float().softmax(1))

    def parts(self, image: Pixels, seen: Callable[[int], object]) -> Iterator[Part]:
        """Probabilities of an image [H, W, N], part by part, without holding all of them."""
        assert self.windowed is not None
        with torch.inference_mode():
            # On the host: only the windows go to the device, whose memory need not hold the image.
            yield from self.windowed.parts(torch.from_numpy(image).permute(2, 0, 1), seen, self.device)

    def tensor(self, image: Pixels) -> Tensor:
        """An image [H, W, N] as uint8 [N, H, W] on the device."""
        return torch.from_numpy(image).to(self.device).permute(2, 0, 1)
