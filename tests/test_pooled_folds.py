"""Sweeps over folds: every image counted once in a deal, and the seed as the unit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from segmentation.analysis import pictures
from segmentation.analysis.cells import Pair, find_cells, find_pairs
from segmentation.analysis.findings import as_row, folds_sentence, judge, sentence
from segmentation.analysis.folds import pool_folds
from segmentation.analysis.page import write_report
from segmentation.analysis.runs import find_runs
from segmentation.analysis.statistics import paired_difference
from segmentation.errors import UserError
from segmentation.report import find_samples
from segmentation.train import train
from tests.conftest import Compose
from tests.made_up import CLASSES, COLOURS, make_run

FOLDS, IMAGES, PIXELS = 3, 2, 72


def write_fold(
    folder: Path, lstm: str, seed: int, fold: int, *, deal: int = 0, of: int | None = None, **changes: Any
) -> None:
    """A run tested on two images of its fold, or of fold `of`, the second three times as large."""
    data = {"name": "toy", "classes": CLASSES, "colours": COLOURS, "ignore_index": 255, "folds": FOLDS, "fold": fold,
            "fold_seed": deal}  # fmt: skip
    shift = {"none": 0, "zigzag": 4 + fold + seed}[lstm]
    right = np.array([40 + 5 * fold + seed + shift, 3 * (50 - 4 * fold + shift)])
    wrong = np.array([PIXELS, 3 * PIXELS]) - right
    confusion = np.stack([np.diag([hit, 0, 0]) + np.eye(3, k=1, dtype=int) * [0, miss, 0]
                          for hit, miss in zip(right, wrong, strict=True)])  # fmt: skip
    metrics = {
        "split": "val", "num_images": IMAGES, "files_hash": f"fold {fold}", "train_seconds": 60.0 + 30 * fold,
        "per_class": {name: {} for name in CLASSES}, "confusion_matrix": confusion.sum(0).tolist(),
    }  # fmt: skip
    make_run(folder, lstm, seed, right.sum() / (4 * PIXELS), config={"data": data}, **metrics | changes)
    (folder / ".hydra" / "overrides.yaml").write_text(
        json.dumps([f"lstm={lstm}", f"data.fold={fold}", f"data.fold_seed={deal}"])
    )
    names = [f"f{fold if of is None else of}_{image}" for image in range(IMAGES)]
    np.savez(folder / "confusion.npz", confusion=confusion, names=np.array(names))
    for name in names:
        pictures.save_mask(folder / "predictions" / f"{name}.png", np.full((8, 9), fold, np.uint8), COLOURS)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for lstm in ("none", "zigzag"):
        for seed in range(3):
            for fold in range(FOLDS):
                write_fold(tmp_path / f"{lstm}{seed}{fold}", lstm, seed, fold)
    return tmp_path


def pair_of(folder: Path) -> tuple[Pair, list[str]]:
    runs, missing = pool_folds(find_runs(folder)[0])
    (pair,) = find_pairs(find_cells(runs))
    return pair, missing


def test_every_image_counts_once_and_the_seed_is_the_unit(sweep: Path) -> None:
    pair, missing = pair_of(sweep)
    assert (missing, pair.seeds, pair.base.label, pair.other.label) == ([], [0, 1, 2], "none", "zigzag")
    run = pair.base.by_seed()[1]
    counted = run.confusions()
    assert counted is not None
    assert counted.names == [f"f{fold}_{image}" for fold in range(FOLDS) for image in range(IMAGES)]
    # Of all pixels, not the mean of means: right ones over all folds.
    right = sum(40 + 5 * fold + 1 + 3 * (50 - 4 * fold) for fold in range(FOLDS))
    assert run.metrics["pixel_accuracy"] == pytest.approx(right / (4 * PIXELS * FOLDS))
    assert run.metrics["pixel_accuracy"] == pytest.approx(np.trace(counted.confusion.sum(0)) / counted.confusion.sum())
    assert (run.metrics["num_images"], run.metrics["train_seconds"]) == (6, 90.0)
    assert [run.prediction(f"f{fold}_1").parent.parent.name for fold in range(FOLDS)] == ["none10", "none11", "none12"]
    assert pair.differences("pixel_accuracy") == pytest.approx([(4 + 1 + seed) / PIXELS for seed in range(3)])
    assert pair.fold_differences("pixel_accuracy") == pytest.approx([(4 + fold + 1) / PIXELS for fold in range(FOLDS)])


def test_a_finding_says_what_its_unit_is(sweep: Path) -> None:
    (finding,) = judge([pair_of(sweep)[0]])
    assert "3 seeds, 3 folds pooled at each" in sentence(finding)
    assert "more than chance in trainings on these images" in sentence(finding)
    assert "over 3 folds, each the mean of 3 seeds" in folds_sentence(finding)
    assert folds_sentence(finding).endswith("for other images to train and test on, more than chance.")
    row = as_row(finding)
    assert (row["unit"], row["num_seeds"], len(row["folds"]["delta"])) == ("seed, its folds pooled", 3, 3)
    plain = paired_difference(row["folds"]["delta"])
    low, high = row["folds"]["interval"]
    assert plain.low is not None
    assert plain.high is not None
    # Three folds, each tested on half as many images as it was trained on: 1/3 + 1/2 instead of 1/3.
    assert (high - low) / (plain.high - plain.low) == pytest.approx(((1 / 3 + 1 / 2) / (1 / 3)) ** 0.5)
    assert finding.units is not None
    assert finding.units.words == "6 images"


def test_the_report_pools_folds(sweep: Path) -> None:
    page = write_report(sweep, lambda name: (np.zeros((8, 9, 3), np.uint8), np.full((8, 9), int(name[1]), np.uint8)))
    text = page.read_text()
    assert "6 images held out in 3 folds" in text
    assert "18 finished runs" in text
    assert "The seed is the unit" in text
    assert "Left out: where" not in text
    assert "Nadeau and Bengio" in (sweep / "report" / "ablation.md").read_text()
    assert len(json.loads((sweep / "report" / "ablation.json").read_text())) == 1


def test_a_seed_that_lacks_a_fold_is_left_out_and_named(sweep: Path) -> None:
    (sweep / "zigzag12" / "metrics.json").unlink()
    pair, missing = pair_of(sweep)
    assert pair.seeds == [0, 2]
    assert missing == ["seed 1 of zigzag10 lacks data.fold=2"]
    for number in range(3):
        for lstm in ("none", "zigzag"):
            (sweep / f"{lstm}{number}{number}" / "metrics.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"no seed has finished all of data.fold=0,1,2; give every seed the same"):
        pool_folds(find_runs(sweep)[0])


def test_folds_of_other_images_do_not_compare(sweep: Path) -> None:
    write_fold(sweep / "other", "none", 9, 1, files_hash="another deal")
    with pytest.raises(UserError, match="files_hash"):
        pool_folds(find_runs(sweep)[0])


def test_a_fold_that_is_there_twice_is_named(sweep: Path) -> None:
    write_fold(sweep / "again", "none", 0, 1)
    with pytest.raises(UserError, match="the same configuration, seed and fold"):
        pool_folds(find_runs(sweep)[0])


def test_runs_of_one_fold_or_none_stay_as_they_are(tmp_path: Path) -> None:
    for seed in range(2):
        write_fold(tmp_path / f"a{seed}", "none", seed, 1)
    runs = find_runs(tmp_path)[0]
    assert pool_folds(runs) == (runs, [])


def test_folds_that_no_run_held_out_are_named(sweep: Path) -> None:
    for lstm in ("none", "zigzag"):
        for seed in range(3):
            (sweep / f"{lstm}{seed}1" / "metrics.json").unlink()
    pair, missing = pair_of(sweep)
    assert pair.seeds == [0, 1, 2]
    assert missing == ["data.fold=1 of data.folds=3, which no run held out"]


def test_deals_are_pooled_as_well(sweep: Path) -> None:
    """The same six images, dealt anew: every image is tested twice, by networks of the same seed."""
    once = {run.seed: run for run in pair_of(sweep)[0].base.runs}
    for lstm in ("none", "zigzag"):
        for seed in range(3):
            for fold in range(FOLDS):
                write_fold(sweep / f"{lstm}{seed}{fold}b", lstm, seed, fold, deal=4, files_hash=f"again {fold}")
    pair, missing = pair_of(sweep)
    assert (missing, pair.seeds, pair.num_folds) == ([], [0, 1, 2], 2 * FOLDS)
    assert len(pair.fold_differences("pixel_accuracy")) == 2 * FOLDS
    run = pair.base.by_seed()[1]
    counted, before = run.confusions(), once[1].confusions()
    assert counted is not None
    assert before is not None
    assert counted.names == before.names
    np.testing.assert_array_equal(counted.confusion, 2 * before.confusion)
    assert run.metrics["num_images"] == once[1].metrics["num_images"] == 6
    assert run.metrics["pixel_accuracy"] == pytest.approx(once[1].metrics["pixel_accuracy"])
    (finding,) = judge([pair])
    assert "3 seeds, 6 folds pooled at each" in sentence(finding)
    assert "6 images held out in 6 folds of 2 deals" in " ".join(write_report(sweep, None).read_text().split())
    (sweep / "zigzag12b" / "metrics.json").unlink()
    assert pair_of(sweep)[1] == ["seed 1 of zigzag10 lacks data.fold_seed=4 data.fold=2"]


def test_folds_with_a_test_of_their_own_are_one_network_each_seed(tmp_path: Path) -> None:
    for lstm in ("none", "zigzag"):
        for seed in range(3):
            for fold in range(FOLDS):
                write_fold(tmp_path / f"{lstm}{seed}{fold}", lstm, seed, fold, split="test", files_hash="same", of=0)
    pair, missing = pair_of(tmp_path)
    assert (missing, pair.seeds, pair.num_folds) == ([], [0, 1, 2], FOLDS)
    assert pair.fold_differences("pixel_accuracy") == []  # all were tested on the same images: no sample of others
    run = pair.base.by_seed()[2]
    counted = run.confusions()
    assert counted is not None
    assert (counted.names, run.metrics["num_images"]) == (["f0_0", "f0_1"], IMAGES)
    assert counted.confusion.sum() == FOLDS * 4 * PIXELS
    (finding,) = judge([pair])
    assert finding.folds is None
    assert "3 seeds, 3 folds pooled at each" in sentence(finding)
    text = " ".join(write_report(tmp_path, None).read_text().split())
    assert "2 images of the split “test”, tested by the networks of 3 folds" in text


@pytest.mark.slow
def test_trained_folds_are_reported_with_their_images(tiny: Compose, tmp_path: Path) -> None:
    for lstm in ("none", "zigzag"):
        for fold in range(2):
            config = tiny(f"lstm={lstm}", "data.splits={train:8,val:0,test:0}", "data.folds=2", f"data.fold={fold}")
            config.output = str(tmp_path / "sweep" / f"{lstm}{fold}")
            train(config)
            hydra = Path(config.output) / ".hydra"
            hydra.mkdir()
            OmegaConf.save(config, hydra / "config.yaml")
    sample_of = find_samples(tmp_path / "sweep", trust=False)
    assert sample_of is not None
    text = write_report(tmp_path / "sweep", sample_of).read_text()
    assert "8 images held out in 2 folds" in text
    assert "Left out" not in text
    assert "from one seed" in text
