"""Made-up runs and sweeps: the files that a report reads, with figures chosen by the test."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from segmentation.analysis import pictures

CLASSES = ["sky", "road", "<b>car</b>"]
COLOURS = [[0, 0, 255], [90, 90, 90], [255, 0, 0]]
TARGETS = {
    "none": "segmentation.models.controls.identity",
    "mlp": "segmentation.models.controls.MLP",
    "conv": "segmentation.models.controls.Convolution",
    "frozen": "segmentation.models.controls.Frozen",
}


def make_run(folder: Path, lstm: str, seed: int, accuracy: float, **changes: Any) -> None:
    target = TARGETS.get(lstm, "segmentation.models.spatial_lstm.SpatialLSTM")
    order = "zigzag" if lstm in TARGETS else lstm
    config = {
        "seed": seed, "output": "${hydra:runtime.output_dir}", "data": {"name": "toy", "root": f"/{folder.name}",
        "classes": CLASSES, "colours": COLOURS, "ignore_index": 255}, "backbone": {"name": "resnet18"},
        "decoder": {"_target_": "x"}, "lstm": {"_target_": target, "order": order}, "optimizer": {"lr": 0.1},
    } | changes.pop("config", {})  # fmt: skip
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    choices = {"backbone": "resnet18", "lstm": lstm, "optimizer": "adamw"}
    (folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"choices": choices}}}))
    metrics = {
        "split": "test", "num_images": 4, "ignore_index": 255, "resolution": "mask", "files_hash": "abc",
        "pixel_accuracy": accuracy, "mean_iou": accuracy / 2, "mean_accuracy": accuracy,
        "absent_classes": [], "parameters": 11_000_000,
        "train_seconds": 75.0,
    } | changes  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "history.json").write_text(
        json.dumps([{"epoch": 0, "val/pixel_accuracy": accuracy, "val/mean_iou": 0.1}])
    )
    right = (np.array([0.9, 0.5, 0.2, 0.7]) * 100 + seed + (np.array([5, -20, 30, 0]) if lstm != "none" else 0)).astype(
        int
    )
    confusion = np.stack([np.diag([count, 0, 0]) + np.eye(3, k=1, dtype=int) * (100 - count) for count in right])
    np.savez(folder / "confusion.npz", confusion=confusion, names=np.array([f"i{index}" for index in range(4)]))
    for index in range(4):
        pictures.save_mask(folder / "predictions" / f"i{index}.png", np.full((8, 9), index % 3, np.uint8), COLOURS)


def make_sweep(folder: Path) -> Path:
    for seed, (without, with_lstm) in enumerate([(0.80, 0.82), (0.81, 0.825), (0.79, 0.815)]):
        make_run(folder / f"n{seed}", "none", seed, without)
        make_run(folder / f"z{seed}", "zigzag", seed, with_lstm)
    return folder
