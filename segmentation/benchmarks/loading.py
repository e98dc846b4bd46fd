"""How fast samples come: by one worker, decoded every time and from the cache."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segmentation.benchmarks.figures import Finding
from segmentation.benchmarks.timing import in_turn
from segmentation.data.module import DataModule
from segmentation.errors import UserError

PART = "loading"
AHEAD = 3  # batches that do not count: two are prepared before the first is asked for


def measure_loading(
    settings: Mapping[str, Any], folder: Path, repetitions: int, *, images: int, wanted: float
) -> list[Finding]:
    """Images a second that one worker hands over, augmented and in batches.

    Args:
        settings: the whole configuration.
        folder: unused; nothing is written.
        repetitions: counted ones.
        images: of each repetition, at most those of an epoch.
        wanted: images a second.
    """

    def load(cache: str) -> float:
        changed = {**settings["data"], "num_workers": 1, "cache": cache}
        data = DataModule(changed, settings["augment"], 0)
        data.prepare("train")
        batches = data.train_dataloader()
        if len(batches) <= AHEAD:
            raise UserError(f"data: {len(batches)} batches are too few; the first {AHEAD} do not count")
        loader = iter(batches)
        for _ in range(AHEAD):
            next(loader)
        counted, start = 0, time.perf_counter()
        for batch in loader:
            counted += len(batch["image"])
            if counted >= images:
                break
        return counted / (time.perf_counter() - start)

    kept = settings["data"]["cache"] if settings["data"]["cache"] != "off" else "auto"
    rates = in_turn({"from the cache": lambda: load(kept), "decoded": lambda: load("off")}, repetitions, PART)
    return [
        Finding(PART, "one worker, from the cache", "images/s", rates["from the cache"], at_least=wanted),
        Finding(PART, "one worker, decoding every time", "images/s", rates["decoded"]),
    ]
