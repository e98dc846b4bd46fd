"""A survey as JSON and as tables."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segmentation.printable import printable
from segmentation.runfiles import write_json
from segmentation.survey.findings import Finding, Survey
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
    training = "train" if "train" in splits else survey.splits[0]
    weights = class_weights(survey.pixels(training)[:count], labelled_where_present(survey.of(training), count))
    content = {"splits": splits, "class_weights": weights, "findings": [asdict(finding) for finding in findings]}
    write_json(folder / "check.json", content)
    return content


def as_text(name: str) -> str:
    """A name as it is, to Rich and to the terminal."""
    return escape(printable(name))


def show(content: dict[str, Any], findings: Sequence[Finding]) -> dict[str, Any]:
    """Print it: the splits, the classes, the findings, and the weights proposed."""
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
        table.add_row(as_text(name), f"{content['class_weights'][label]:.3g}", *cells)
    console.print(table, "")
    for finding in findings:
        colour, word = ("red", "error") if finding.error else ("yellow", "warning")
        console.print(f"[bold {colour}]{word}[/] {as_text(finding.text())}", soft_wrap=True)
    if not findings:
        console.print("[green]nothing found[/]")
    weights = ",".join(f"{weight:g}" for weight in content["class_weights"])
    console.print(f"\nmedian-frequency weights: 'loss.class_weights=[{weights}]'", soft_wrap=True)
    return content
