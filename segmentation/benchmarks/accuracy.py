"""Does the speed cost accuracy? This project and the peer, trained alike for as many epochs, judged alike."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from segmentation.benchmarks.figures import Finding
from segmentation.benchmarks.files import sample_files
from segmentation.benchmarks.peer import PeerTask, peer_loader, peer_trainer
from segmentation.data.module import DataModule
from segmentation.evaluation import Evaluation
from segmentation.models.network import Network
from segmentation.train import build_task
from segmentation.trainer import build_trainer

PART = "accuracy"
SCORES = {"pixel_accuracy": "pixel accuracy", "mean_iou": "mean IoU"}
Scores = Mapping[str, float]


def measure_accuracy(
    settings: Mapping[str, Any],
    folder: Path,
    repetitions: int,
    *,
    epochs: int,
    seeds: Sequence[int],
    peer_precision: str,
    peer_workers: int,
) -> list[Finding]:
    """Pixel accuracy and mean IoU on the validation images after the last epoch, without choosing a best one.

    Args:
        settings: the whole configuration.
        folder: for what the trainings write.
        repetitions: unused; the seeds are what is repeated.
        epochs: of each training.
        seeds: one training each, of both.
        peer_precision: Lightning's word for how the peer computes.
        peer_workers: processes that load for it.
    """
    scores: dict[str, list[Scores]] = {"this project": [], "peer": []}
    for seed in seeds:
        for name, found in scores.items():
            pl.seed_everything(seed, workers=True, verbose=False)
            print(f"{PART}: {name}, seed {seed}", flush=True)
            if name == "peer":
                found.append(train_peer(settings, folder, epochs, precision=peer_precision, workers=peer_workers))
            else:
                found.append(train_ours(settings, folder, epochs, seed))
    findings = []
    for key, words in SCORES.items():
        values = {name: [100 * score[key] for score in found] for name, found in scores.items()}
        findings += [Finding(PART, f"{name}: {words}", "%", found) for name, found in values.items()]
        gains = [own - other for own, other in zip(*values.values(), strict=True)]
        findings.append(Finding(PART, f"this project - peer: {words}", "points", gains))
    return findings


def train_ours(settings: Mapping[str, Any], folder: Path, epochs: int, seed: int) -> Scores:
    """The scores of this project's training."""
    data = DataModule(settings["data"], settings["augment"], seed)
    data.prepare("train", "val")
    limits = {"max_epochs": epochs, "args": settings["trainer"]["args"] | {"limit_val_batches": 0}}
    trainer = build_trainer(settings["trainer"] | limits, folder)
    task = build_task(dict(settings), data)
    trainer.fit(task, data)
    return judge(task.network, settings, data, folder, settings["trainer"]["precision"])


def train_peer(settings: Mapping[str, Any], folder: Path, epochs: int, *, precision: str, workers: int) -> Scores:
    """The scores of the peer's training."""
    data = DataModule(settings["data"], {}, 0)
    loader = peer_loader(settings, sample_files(settings, "train"), workers)
    task = PeerTask(settings, len(data.classes), epochs * len(loader))
    accelerator = settings["trainer"]["accelerator"]
    peer_trainer(folder, accelerator=accelerator, precision=precision, max_epochs=epochs).fit(task, loader)
    return judge(task, settings, data, folder, precision)


def judge(network: Any, settings: Mapping[str, Any], data: DataModule, folder: Path, precision: str) -> Scores:
    """The scores of a network on the validation images, at the masks' own size: by the same evaluation, each in the
    precision that it was trained in.
    """
    task = Evaluation(
        network,
        classes=data.classes,
        ignore_index=data.ignore_index,
        channels_last=isinstance(network, Network) and settings["trainer"]["channels_last"],
    )
    trainer = build_trainer(settings["trainer"] | {"precision": precision}, folder)
    trainer.validate(task, data, verbose=False)
    return task.results["val"]
