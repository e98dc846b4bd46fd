"""How fast samples come: from some workers, decoded every time and from the cache."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segmentation.benchmarks.figures import Finding
from segmentation.benchmarks.timing import in_turn
from segmentation.data.cached import CachedReader
from segmentation.data.module import DataModule
from segmentation.errors import UserError

PART = "loading"
AHEAD = 3  # batches a worker that do not count: two are prepared before the first is asked for


def measure_loading(
    settings: Mapping[str, Any],
    folder: Path,
    repetitions: int,
    *,
    images: int,
    workers: Sequence[int],
    wanted: float,
) -> list[Finding]:
    """Images a second that workers hand over, augmented and in batches, epoch after epoch.

    Args:
        settings: the whole configuration.
        folder: unused; nothing is written.
        repetitions: counted ones.
        images: of each repetition and worker.
        workers: how many load, one number after the other.
        wanted: images a second of each worker, from the cache.
    """

    def load(number: int, cache: str) -> float:
        data = DataModule({**settings["data"], "num_workers": number, "cache": cache}, settings["augment"], 0)
        data.prepare("train")
        if cache != "off" and not isinstance(data.reader("train"), CachedReader):
            raise UserError("data.cache: this split is not kept in it (see data.cache_gib); set data.cache=FOLDER")
        batches = itertools.chain.from_iterable(itertools.repeat(data.train_dataloader()))
        for _ in range(AHEAD * number):
            next(batches)
        counted, start = 0, time.perf_counter()
        while counted < images * number:
            counted += len(next(batches)["image"])
        return counted / (time.perf_counter() - start)

    kept = settings["data"]["cache"] if settings["data"]["cache"] != "off" else "auto"
    findings = []
    for number in workers:
        subjects: dict[str, Callable[[], float]] = {
            way: lambda number=number, cache=cache: load(number, cache)  # type: ignore[misc]
            for way, cache in {"from the cache": kept, "decoding every time": "off"}.items()
        }
        rates = in_turn(subjects, repetitions, f"{PART}, {number} workers" if number > 1 else PART)
        for way, rate in rates.items():
            want = wanted * number if way == "from the cache" else None
            findings.append(Finding(PART, f"{number} workers, {way}", "images/s", rate, at_least=want))
    return findings
