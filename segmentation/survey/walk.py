"""Every sample of a data set read once, with a progress bar, and some of them drawn."""

from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segmentation.analysis import plots
from segmentation.data.channels import visible
from segmentation.data.splits import Splits
from segmentation.survey.facts import Fact, collect
from segmentation.survey.findings import Survey
from segmentation.survey.sheet import contact_sheet


def walk(splits: Splits) -> list[Fact]:
    """The facts of all samples, by split."""
    facts: list[Fact] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as bar:
        readers = {split: splits.reader(split) for split in splits.sources}
        tasks = {split: bar.add_task(f"reading {split}", total=len(reader)) for split, reader in readers.items()}
        for split, reader in readers.items():
            task = tasks[split]
            facts += collect(reader, split, lambda task=task: bar.advance(task))  # type: ignore[misc]
    return facts


def draw_sheet(survey: Survey, splits: Splits, count: int, path: Path) -> None:
    """Draw samples at even distances over all splits; nothing where no sample can be read."""
    good = [fact for fact in survey.facts if fact.problem is None]
    if not good:
        return
    places = sorted({round(place) for place in np.linspace(0, len(good) - 1, min(count, len(good))).tolist()})
    samples = []
    for fact in (good[place] for place in places):
        reader = splits.reader(fact.split)
        sample = reader[reader.names.index(fact.name)]
        samples.append((fact.split, sample._replace(image=visible(sample.image, splits.config["shown"]))))
    pixels = survey.pixels("train" if "train" in survey.splits else survey.splits[0])[: len(survey.classes)]
    shares = (pixels / max(1, pixels.sum())).tolist()
    plots.save(contact_sheet(samples, survey.classes, survey.colours, survey.ignore_index, shares), path)
