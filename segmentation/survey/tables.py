"""A survey as JSON and as tables."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segmentation.printable import printable
from segmentation.runfiles import write_json
from segmentation.survey.findings import Finding, Survey
from segmentation.survey.levels import normalisation
from segmentation.survey.weights import class_weights, labelled_where_present


def as_json(survey: Survey, findings: Sequence[Finding], folder: Path) -> dict[str, Any]:
    """Everything found out, also written to `check.json`."""
    count = len(survey.classes)
    splits: dict[str, Any] = {}
    for split in survey.splits:
        facts, pixels = survey.of(split), survey.pixels(split)
        labelled = int(pixels[:count].sum())
        splits[split] = {
            "images": sum(fact.split == split for fact in survey.facts),
            "unreadable": sum(fact.split == split and fact.problem is not None for fact in survey.facts),
            "sizes": {f"{w}x{h}": times for (h, w), times in Counter(fact.size for fact in facts).most_common()},
            "void_share": int(pixels[survey.ignore_index]) / max(1, int(pixels.sum())),
            "classes": {
                name: {
                    "share": int(pixels[label]) / max(1, labelled),
                    "images": sum(bool(fact.pixels[label]) for fact in facts),
                }
                for label, name in enumerate(survey.classes)
            },
        }
    content = {"splits": splits, **propose(survey), "findings": [asdict(finding) for finding in findings]}
    write_json(folder / "check.json", content)
    return content


def propose(survey: Survey) -> dict[str, Any]:
    """What a training could be told, by its own split where there is one; None for what nothing is known of."""
    training = "train" if "train" in survey.splits else survey.splits[0]
    facts, pixels = survey.of(training), survey.pixels(training)[: len(survey.classes)]
    weights = class_weights(pixels, labelled_where_present(facts, len(pixels))) if pixels.any() else None
    return {"class_weights": weights, "normalisation": normalisation(facts)}


def as_text(name: str) -> str:
    """A name as it is, to Rich and to the terminal."""
    return escape(printable(name))


def show(content: dict[str, Any], findings: Sequence[Finding]) -> dict[str, Any]:
    """Print it: the splits, the classes, the findings, and what is proposed."""
    console = Console(highlight=False)
    splits = content["splits"]
    table = Table("split", "images", "unreadable", "sizes", "void", box=None, header_style="bold", pad_edge=False)
    for name, split in splits.items():
        sizes = list(split["sizes"])
        listed = ", ".join(sizes[:3]) + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else "")
        table.add_row(
            as_text(name), str(split["images"]), str(split["unreadable"]), listed, f"{100 * split['void_share']:.1f} %"
        )
    console.print(table, "")
    table = Table("class", "weight", box=None, header_style="bold", pad_edge=False)
    for name in splits:
        table.add_column(f"{as_text(name)}: pixels", justify="right")
        table.add_column("images", justify="right")
    for label, name in enumerate(next(iter(splits.values()))["classes"]):
        cells = [
            text
            for split in splits.values()
            for text in (f"{100 * split['classes'][name]['share']:.2f} %", str(split["classes"][name]["images"]))
        ]
        weight = f"{content['class_weights'][label]:.3g}" if content["class_weights"] else ""
        table.add_row(as_text(name), weight, *cells)
    console.print(table, "")
    for finding in findings:
        colour, word = ("red", "error") if finding.error else ("yellow", "warning")
        console.print(f"[bold {colour}]{word}[/] {as_text(finding.text())}", soft_wrap=True)
    if not findings:
        console.print("[green]nothing found[/]")
    for line in proposals(content):
        console.print(escape(line), soft_wrap=True)
    return content


def proposals(content: dict[str, Any]) -> Iterator[str]:
    """The words that tell a training what was found."""
    if content["class_weights"]:
        yield f"\nmedian-frequency weights, which loss=cross_entropy takes: {override('loss.class_weights', content)}"
        yield (
            "(loss=boundary and loss=combined take them as loss.terms.cross_entropy.class_weights; no other loss does)"
        )
    if content.get("normalisation"):
        words = " ".join(override(f"data.{key}", content["normalisation"]) for key in ("mean", "std"))
        yield f"\nmean and std of these images, in place of ImageNet's: {words}"


def override(key: str, values: Mapping[str, Sequence[float]]) -> str:
    """An override with a list, quoted for the shell."""
    listed = ",".join(f"{value:g}" for value in values[key.rpartition(".")[2]])
    return f"'{key}=[{listed}]'"
