"""Augmentation by albumentations, as listed in `conf/augment/`, and the resize to what the network sees."""

import os
import random
import warnings
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no question to a server at import

import albumentations as A
import cv2
import numpy as np
from hydra.utils import instantiate

from segmentation.data.images import Pixels
from segmentation.errors import UserError

TRIED = 96  # pixels: the side of an image on which a transform is tried
MILD = 1.5  # times smaller: up to here two neighbours still reach every pixel


class Augmentation:
    """A chain of transforms whose randomness is set anew for every sample.

    Args:
        transforms: name -> configuration of an albumentations transform, applied in this order.
        ignore_index: label of what moves in from outside the image.
        channels: of the images.

    Raises:
        UserError: for what albumentations refuses, or cannot do to images of so many channels.
    """

    def __init__(self, transforms: Mapping[str, Mapping[str, Any]], ignore_index: int, channels: int = 3) -> None:
        chain = [build_transform(name, config) for name, config in transforms.items()]
        if channels != 3:
            for name, transform in zip(transforms, chain, strict=True):
                try_channels(name, transform, channels)
        # Said here, it holds for transforms inside others (OneOf, Sequential) as well.
        self.chain = A.Compose(chain, mask_interpolation=cv2.INTER_NEAREST)
        self.void = np.uint8(ignore_index)

    def __call__(self, image: Pixels, mask: Pixels, seed: int) -> tuple[Pixels, Pixels]:
        """Image [H, W, C] and mask [H, W], changed alike, as `seed` says and nothing else."""
        # One stream for all: by set_random_seed each transform gets the same seed, and all those of one p act together.
        self.chain.set_random_state(np.random.default_rng(seed), random.Random(seed))
        # Every transform fills masks with 0 unless told otherwise, so within the chain 0 is void (uint8 wraps around).
        changed = self.chain(image=image, mask=mask - self.void)
        return changed["image"], changed["mask"] + self.void


def build_transform(name: str, config: Mapping[str, Any]) -> Any:
    """One transform; what albumentations only warns of, or would blend labels, is an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Argument")  # "Argument(s) '...' are not valid", and then ignored
        try:
            transform = instantiate(config, _convert_="all")
        except Exception as error:
            reason = " ".join(str(error.__cause__ or error).split())[:200]
            raise UserError(f"augment.{name}: albumentations refuses this: {reason}") from error
    if config.get("mask_interpolation", cv2.INTER_NEAREST) != cv2.INTER_NEAREST:
        raise UserError(f"augment.{name}.mask_interpolation: only 0 (nearest): labels between two labels mean nothing")
    if config.get("area_for_downscale") == "image_mask":
        raise UserError(f"augment.{name}.area_for_downscale: only image: labels between two labels mean nothing")
    for key in ("fill_mask", "mask_drop_value"):
        if key in config:
            raise UserError(f"augment.{name}.{key}: what moves into a mask is always void; leave it out")
    return transform


def try_channels(name: str, transform: Any, channels: int) -> None:
    """Raise a UserError if a transform, or one inside it, does to RGB what it cannot do to other channels."""
    for inner in getattr(transform, "transforms", ()):
        try_channels(name, inner, channels)
    try:
        apply(transform, 3)
    except Exception:
        return  # of another reason, such as the size
    try:
        kept = apply(transform, channels) == channels
    except Exception:
        kept = False
    if not kept:
        raise UserError(
            f"augment.{name}: {type(transform).__name__} cannot change images of {channels} channels; "
            "augment=bands has the light for any number of them, augment=crop_bands crops as well, augment=flip does "
            "without"
        )


def apply(transform: Any, channels: int) -> int:
    """Change some image of so many channels, and how many it has then."""
    image = np.random.default_rng(0).integers(0, 256, (TRIED, TRIED, channels), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a grey image has no hue to change
        changed = transform(image=image, mask=image[..., 0].copy(), force_apply=True)["image"]
    return int(changed.shape[2]) if changed.ndim == 3 else 0


def resize_image(image: Pixels, size: tuple[int, int] | list[int] | None) -> Pixels:
    """Image [H, W, C] at (height, width), by area when a side shrinks so far that interpolating would skip pixels; None
    leaves it.
    """
    if size is None or tuple(size) == image.shape[:2]:
        return image
    if image.shape[2] > 4:  # OpenCV averages no more at a time
        parts = [resize_image(image[..., first : first + 4], size) for first in range(0, image.shape[2], 4)]
        return np.concatenate(parts, axis=2)
    shrinkage = max(before / after for before, after in zip(image.shape, size, strict=False))
    # Averaging areas takes 2 ms for an image of 480x360, interpolating a tenth of that.
    how = cv2.INTER_AREA if shrinkage > MILD else cv2.INTER_LINEAR
    resized = cv2.resize(image, (size[1], size[0]), interpolation=how)
    return np.asarray(resized, np.uint8).reshape(*size, image.shape[2])  # OpenCV drops the axis of a single channel


def resize_mask(mask: Pixels, size: tuple[int, int] | list[int] | None) -> Pixels:
    """Mask [H, W] at (height, width): every pixel takes the label of the nearest."""
    if size is None or tuple(size) == mask.shape:
        return mask
    return np.asarray(cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
