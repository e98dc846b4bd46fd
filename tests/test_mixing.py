"""`callbacks=cutmix`: training images with rectangles of others, as seed, epoch and batch say."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from torch import Tensor

from segmentation.data.module import DataModule
from segmentation.errors import UserError
from segmentation.finding import changing
from segmentation.mixing import CutMix
from segmentation.models.files import load_model
from segmentation.train import train
from segmentation.trainer import build_trainer
from tests import settings
from tests.conftest import Compose

VOID = 255
Batch = dict[str, Tensor]


def batch(count: int = 6) -> Batch:
    """Each image is of a colour of its own and its mask of that class, with a column of void."""
    numbers = torch.arange(count)
    mask = numbers[:, None, None].repeat(1, 20, 30)
    mask[:, :, 7] = VOID
    return {"image": mask[:, None].repeat(1, 3, 1, 1).to(torch.uint8), "mask": mask, "index": numbers}


def mixed(callback: CutMix, epoch: int = 0, step: int = 0, rank: int = 0, **made: Any) -> Batch:
    items, trainer = batch(**made), SimpleNamespace(current_epoch=epoch, global_rank=rank)
    callback.on_train_batch_start(trainer, None, items, step)  # type: ignore[arg-type]
    return items


def test_rectangles_come_with_their_labels_and_void_stays_void() -> None:
    plain, found = batch(), mixed(CutMix(0, probability=1.0))
    assert torch.equal(found["image"], found["mask"][:, None].expand(-1, 3, -1, -1).to(torch.uint8))
    assert torch.equal(found["mask"] == VOID, plain["mask"] == VOID)
    for item, before, other in zip(found["mask"], plain["mask"], plain["mask"].roll(1, 0), strict=True):
        taken = (item == other) & (other != VOID)
        assert torch.equal(item[~taken], before[~taken])
        rows, columns = taken.any(1).nonzero(), taken.any(0).nonzero()
        inside = item[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # a rectangle, filled
        assert set(inside.unique().tolist()) <= {int(other[0, 0]), VOID}


def test_share_of_images_and_of_their_area() -> None:
    changed, areas = 0, []
    for step in range(200):
        differs = mixed(CutMix(0, probability=0.3), step=step)["mask"] != batch()["mask"]
        share = differs.float().mean((1, 2))
        changed += int((share > 0).sum())
        areas += share[share > 0].tolist()
    assert changed / 1200 == pytest.approx(0.3, abs=0.05)
    assert np.mean(areas) == pytest.approx(0.5, abs=0.06)
    narrow = [mixed(CutMix(0, 1.0, alpha=50), step=step)["mask"] != batch()["mask"] for step in range(20)]
    assert torch.stack(narrow).float().mean((2, 3)).std() < 0.1 < np.std(areas)


def test_seed_epoch_and_batch_decide() -> None:
    first = mixed(CutMix(1), epoch=2, step=3)["mask"]
    assert torch.equal(first, mixed(CutMix(1), epoch=2, step=3)["mask"])
    for other in (mixed(CutMix(0), epoch=2, step=3), mixed(CutMix(1), 3, 3), mixed(CutMix(1), 2, 4),
                  mixed(CutMix(1), 2, 3, rank=1)):  # fmt: skip
        assert not torch.equal(first, other["mask"])
    assert torch.equal(mixed(CutMix(0, probability=0.0))["mask"], batch()["mask"])


class Record(pl.LightningModule):
    """Learns nothing, and keeps the batches that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.train_batches: list[Batch] = []
        self.val_batches: list[Batch] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.train_batches.append({key: value.clone() for key, value in batch.items()})
        return self.weight.sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.val_batches.append({key: value.clone() for key, value in batch.items()})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def record(tiny: Compose, folder: Path, *words: str) -> Record:
    values = settings.plain(tiny("data.check=false", "trainer.max_epochs=2", *words))
    data, seen = DataModule(values["data"], values["augment"], 0), Record()
    values["trainer"]["args"] = {"enable_progress_bar": False}
    mixing = [instantiate(config) for name, config in values["callbacks"].items() if name == "cutmix"]
    build_trainer(values["trainer"], folder, callbacks=mixing).fit(seen, data)
    return seen


def same(one: list[Batch], other: list[Batch]) -> list[bool]:
    return [all(torch.equal(left[key], right[key]) for key in left) for left, right in zip(one, other, strict=True)]


def test_training_is_mixed_whoever_loads_it_and_validation_is_not(tiny: Compose, tmp_path: Path) -> None:
    plain, cut = (record(tiny, tmp_path, *words) for words in ((), ("callbacks=cutmix",)))
    loaded = record(tiny, tmp_path, "callbacks=cutmix", "data.num_workers=2")
    assert len(plain.train_batches) == 4
    assert not any(same(plain.train_batches, cut.train_batches))
    assert all(same(cut.train_batches, loaded.train_batches))
    assert all(same(plain.val_batches, cut.val_batches))
    for one, other in zip(plain.train_batches, cut.train_batches, strict=True):
        assert torch.equal(one["index"], other["index"])  # the same images in the same order


def test_a_search_for_a_rate_mixes_as_the_training_does(tiny: Compose) -> None:
    found = changing(settings.plain(tiny("callbacks=cutmix", "seed=7", "callbacks.cutmix.alpha=2")))
    assert [(one.seed, one.alpha) for one in found if isinstance(one, CutMix)] == [(7, 2.0)]


@pytest.mark.slow
def test_a_balanced_cropped_mixed_training_that_was_stopped_goes_on_to_the_same_weights(
    tiny: Compose, tmp_path: Path
) -> None:
    words = ("data.balance=1", "augment=crop", "callbacks=cutmix", "scheduler=constant", "trainer.max_epochs=2",
             "test=false")  # fmt: skip
    train(tiny(*words, f"output={tmp_path / 'straight'}"))
    halt = "+callbacks.halt._target_=tests.test_options.StopAfterFirst"
    with pytest.raises(RuntimeError, match="halt"):
        train(tiny(*words, halt, f"output={tmp_path / 'stopped'}"))
    train(tiny(*words, f"output={tmp_path / 'stopped'}", f"ckpt={tmp_path / 'stopped' / 'checkpoints' / 'last.ckpt'}"))
    straight, stopped = (load_model(tmp_path / name)[0].state_dict() for name in ("straight", "stopped"))
    assert all(torch.equal(value, stopped[name]) for name, value in straight.items())


def test_mistakes_are_named() -> None:
    for wrong in ({"probability": 1.5}, {"alpha": 0}):
        with pytest.raises(UserError, match=f"{next(iter(wrong))}="):
            CutMix(0, **wrong)
    with pytest.raises(UserError, match=r"raise data\.batch_size"):
        mixed(CutMix(0), count=1)
