"""`augment=crop`: parts of images in which no class covers too much."""

from typing import Any

import numpy as np
import pytest
import torch

from segmentation.data.augment import Augmentation, build_transform
from segmentation.data.images import Pixels
from segmentation.data.module import DataModule
from segmentation.errors import UserError
from segmentation.targets import check_targets
from tests import settings
from tests.conftest import Compose

VOID = 11
RATIO = 0.6


def scene() -> tuple[Pixels, Pixels]:
    """A wide field of class 0, a stripe of class 3, and void below; the image tells where each pixel is from."""
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 40:] = 3
    mask[30:] = VOID
    rows, columns = np.indices(mask.shape).astype(np.uint8)
    return np.stack([rows, columns, mask], 2), mask


def crop(**keys: Any) -> Augmentation:
    return Augmentation({"crop": {"_target_": "segmentation.data.crops.VariedCrop", **keys}}, VOID)


def cuts(count: int = 60, **keys: Any) -> list[tuple[Pixels, Pixels]]:
    chain = crop(**keys)
    return [chain(*scene(), seed) for seed in range(count)]


def covered(mask: Pixels) -> float:
    """What the most frequent class covers of the labelled pixels."""
    counts = np.bincount(mask[mask != VOID])
    return float(counts.max() / counts.sum())


def test_no_class_covers_more_than_it_may_where_another_place_can_be_found() -> None:
    free = [covered(mask) for _, mask in cuts(scale=[0.3, 0.5], cat_max_ratio=1.0)]
    chosen = [covered(mask) for _, mask in cuts(scale=[0.3, 0.5], cat_max_ratio=RATIO, tries=300)]
    assert max(chosen) <= RATIO < np.mean(free)
    few = [covered(mask) for _, mask in cuts(scale=[0.3, 0.5], cat_max_ratio=RATIO, tries=2)]
    assert np.mean(chosen) < np.mean(few) < np.mean(free)


def test_image_and_mask_are_cut_alike_and_to_the_same_size_whatever_is_chosen() -> None:
    image, mask = scene()
    pairs = zip(cuts(scale=[0.3, 0.8], cat_max_ratio=1.0), cuts(scale=[0.3, 0.8], cat_max_ratio=RATIO), strict=True)
    sizes = set()
    for free, chosen in pairs:
        assert free[1].shape == chosen[1].shape
        sizes.add(chosen[1].shape)
        for part, labels in (free, chosen):
            (top, left), (height, width) = part[0, 0, :2], labels.shape
            assert np.array_equal(part, image[top : top + height, left : left + width])
            assert np.array_equal(labels, mask[top : top + height, left : left + width])
    assert len(sizes) > 10
    assert all(0.3 * 40 - 1 < height < 0.8 * 40 + 1 and abs(width - 1.5 * height) <= 1 for height, width in sizes)


def test_the_most_varied_is_taken_where_none_is_varied_enough() -> None:
    found = [covered(mask) for _, mask in cuts(scale=[0.9, 0.9], cat_max_ratio=0.05, tries=100)]
    free = [covered(mask) for _, mask in cuts(scale=[0.9, 0.9], cat_max_ratio=1.0)]
    assert max(found) == min(found) <= min(free)
    _, mask = crop(cat_max_ratio=0.5)(np.zeros((8, 9, 3), np.uint8), np.full((8, 9), 2, np.uint8), 0)
    assert set(mask.ravel()) == {2}


def test_crops_follow_their_seed_alone() -> None:
    first, again = cuts(12), cuts(12)
    assert all(np.array_equal(one[0], other[0]) for one, other in zip(first, again, strict=True))
    assert len({image.tobytes() for image, _ in first}) == 12


def test_only_training_is_cropped(tiny: Compose) -> None:
    found = {}
    for words in ((), ("augment=crop",), ("augment=crop", "augment.crop.cat_max_ratio=0.3")):
        values = settings.plain(tiny("data.check=false", *words))
        data = DataModule(values["data"], values["augment"], 0)
        batches = [next(iter(loader))["image"] for loader in (data.train_dataloader(), data.val_dataloader())]
        assert batches[0].shape[-2:] == (32, 48)
        found[words] = batches
    (plain, val), (cropped, cropped_val), (chosen, _) = found.values()
    assert torch.equal(val, cropped_val)
    assert not torch.equal(plain, cropped)
    assert not torch.equal(cropped, chosen)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_images_of_any_number_of_channels_are_cropped_in_other_light(channels: int, compose: Compose) -> None:
    values, pixels = settings.plain(compose("augment=crop_bands"))["augment"], scene()[0][..., :1].repeat(channels, 2)
    chain = Augmentation(values, VOID, channels)
    found = [chain(pixels, scene()[1], seed)[0] for seed in range(20)]
    assert len({image.shape for image in found}) > 4
    assert {image.shape[2] for image in found} == {channels}
    assert len({image.max() for image in found}) > 4
    assert all((image == image[..., :1]).all() for image in found)  # all channels alike
    assert values["crop"] == settings.plain(compose("augment=crop"))["augment"]["crop"]


def test_what_cannot_be_done_to_so_many_channels_is_named_with_what_can(compose: Compose) -> None:
    for name in ("default", "crop"):
        values = settings.plain(compose(f"augment={name}"))["augment"]
        Augmentation(values, VOID, 1)  # grey needs no other choice
        with pytest.raises(UserError, match=r"augment\.light: .*4 channels; augment=bands .*augment=crop_bands"):
            Augmentation(values, VOID, 4)


@pytest.mark.parametrize(
    "keys",
    [{"scale": [0.5]}, {"scale": [0.0, 1.0]}, {"scale": [0.8, 0.5]}, {"scale": [1.0, 2.0]}, {"cat_max_ratio": 0},
     {"cat_max_ratio": 75}, {"tries": 0}],
    ids=str,
)  # fmt: skip
def test_mistakes_are_named(keys: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"augment\.crop: .*{next(iter(keys))}="):
        build_transform("crop", {"_target_": "segmentation.data.crops.VariedCrop", **keys})


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(UserError, match=r"augment\.crop\.ratio: .*takes no such argument"):
        check_targets({"augment": {"crop": {"_target_": "segmentation.data.crops.VariedCrop", "ratio": 1}}})
