"""`data.balance`: rare classes come more often, decided by seed and epoch alone."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from segmentation.data.balance import balanced_shares, shares
from segmentation.data.module import DataModule
from segmentation.data.samplers import TrainSampler
from segmentation.errors import UserError
from tests import settings
from tests.conftest import Compose

PIXELS = np.array([[90, 10, 0], [100, 0, 0], [100, 0, 0], [60, 0, 40]])  # of three classes in four images


def module(tiny: Compose, *words: str) -> DataModule:
    values = settings.plain(tiny("data.splits={train:40,val:2}", "data.check=false", *words))
    return DataModule(values["data"], values["augment"], values["seed"])


def keys(data: DataModule, epoch: int = 0) -> list[Any]:
    sampler = data.train_dataloader().batch_sampler.sampler  # type: ignore[union-attr]
    sampler.set_epoch(epoch)
    return list(sampler)


def test_shares_are_those_of_drawing_a_class_and_then_a_pixel() -> None:
    assert shares(PIXELS, 0.0).tolist() == [0.25] * 4
    by_class = [(90 / 350 + 1 + 0) / 3, 100 / 350 / 3, 100 / 350 / 3, (60 / 350 + 0 + 1) / 3]
    assert shares(PIXELS, 1.0).tolist() == pytest.approx(by_class)
    assert shares(PIXELS, 0.4).tolist() == pytest.approx([0.6 * 0.25 + 0.4 * share for share in by_class])
    assert shares(np.zeros((4, 3), np.int64), 1.0).tolist() == [0.25] * 4  # void throughout
    assert shares(np.array([[3, 0], [5, 0]]), 1.0).sum() == pytest.approx(1)  # a class that is nowhere


def test_each_sample_is_drawn_as_often_as_its_share_says() -> None:
    chances = torch.from_numpy(np.random.default_rng(0).dirichlet(np.full(50, 0.3)))
    sampler, drawn = TrainSampler(50, 3, 0, 1, chances), Counter[int]()
    for epoch in range(300):
        sampler.set_epoch(epoch)
        times = Counter(index for _, index, *_ in sampler)
        assert times.total() == 50
        assert all(abs(times[index] - 50 * share) < 1 for index, share in enumerate(chances.tolist()))
        drawn += times
    found = np.array([drawn[index] for index in range(50)]) / (300 * 50)
    assert np.abs(found - chances.numpy()).max() < 0.002  # in the mean neither rounded up nor down


def test_rare_classes_come_more_often_the_stronger_it_is(tiny: Compose) -> None:
    data = module(tiny)
    reader, classes = data.reader("train"), len(data.classes)
    pixels = np.stack([np.bincount(reader[index].mask.ravel(), minlength=256)[:classes] for index in range(40)])
    rare = int(pixels.sum(0).argmin())
    found = []
    for strength in (0, 0.5, 1):
        balanced = module(tiny, f"data.balance={strength}")
        drawn = [key[1] for epoch in range(10) for key in keys(balanced, epoch)]
        assert len(drawn) == 400
        found.append(pixels[drawn][:, rare].sum() / pixels[drawn].sum())
    assert found[0] < found[1] < found[2]


def test_void_is_no_class_to_draw(tiny: Compose) -> None:
    """Where the label of void is one of the classes' numbers, its pixels count for nothing."""
    data = module(tiny)
    reader, classes = data.reader("train"), len(data.classes)
    pixels = np.stack([np.bincount(reader[index].mask.ravel(), minlength=256)[:classes] for index in range(40)])
    assert pixels[:, 0].any()
    for void in (data.ignore_index, 0):
        pixels[:, 0] *= void != 0
        found = balanced_shares(reader, 1.0, classes, void, quiet=True)
        assert found.tolist() == pytest.approx(shares(pixels, 1.0).tolist())


@pytest.mark.parametrize("world", [2, 3])
def test_any_number_of_processes_draws_the_same(world: int) -> None:
    chances = torch.from_numpy(shares(np.random.default_rng(0).integers(0, 9, (20, 4)) ** 3, 1.0))
    whole = list(TrainSampler(20, 1, 0, 1, chances))
    parts = [list(TrainSampler(20, 1, rank, world, chances)) for rank in range(world)]
    assert [key for keys in zip(*parts, strict=True) for key in keys] == whole[: 20 - 20 % world]


def test_without_it_every_sample_comes_once_and_as_ever(tiny: Compose) -> None:
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2)).tolist()
    assert keys(module(tiny), epoch=2) == [(2, index) for index in order]
    drawn = keys(module(tiny, "data.balance=1"), epoch=2)
    assert drawn == keys(module(tiny, "data.balance=1"), epoch=2)
    for other in (keys(module(tiny, "data.balance=1"), epoch=3), keys(module(tiny, "data.balance=1", "seed=1"), 2)):
        assert drawn != other


def test_a_sample_drawn_again_looks_different_and_its_first_time_as_ever(tiny: Compose) -> None:
    data = module(tiny, "data.balance=1")
    drawn = keys(data)
    assert len(set(drawn)) == len(drawn)
    again = next(key for key in drawn if len(key) == 3)
    assert again[:2] in drawn
    plain, balanced = (one.train_dataloader().dataset for one in (module(tiny), data))
    assert torch.equal(plain[again[:2]]["image"], balanced[again[:2]]["image"])
    assert not torch.equal(balanced[again]["image"], balanced[again[:2]]["image"])


def test_a_strength_that_cannot_be_is_named(tiny: Compose) -> None:
    for wrong in (-0.5, 2):
        with pytest.raises(UserError, match=r"data\.balance="):
            module(tiny, f"data.balance={wrong}")
