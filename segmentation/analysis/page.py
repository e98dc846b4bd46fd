"""The report of a run or a sweep: one HTML page that needs nothing else, with its tables and pictures beside it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader

from segmentation.analysis import ablation, expense
from segmentation.analysis.cells import find_cells, find_pairs
from segmentation.analysis.findings import folds_sentence, images_sentence, judge
from segmentation.analysis.folds import is_held_out, part_of, pool_folds
from segmentation.analysis.runs import find_runs
from segmentation.analysis.sections import Measure, Report, inline
from segmentation.analysis.tally import SampleOf
from segmentation.whole import write_text


def lies_below(path: Path, folder: Path) -> bool:
    """Whether a file is in a folder itself, and not behind a link out of it."""
    return path.resolve().is_relative_to(folder.resolve())


def write_report(
    folder: Path, sample_of: SampleOf | None, measure: Measure | None = None, own: Sequence[str] = ()
) -> Path:
    """Write `folder/report/`: index.html, ablation.{md,csv,json}, where.json, cost.json, and the PNGs of the page.

    Args:
        folder: a run or a sweep.
        sample_of: a test image and its mask by name; None leaves out what needs them.
        measure: what cells cost on this machine; None leaves that out.
        own: dotted keys of which every network has a value of its own, see `segmentation.analysis.own`.

    Returns:
        The page.
    """
    finished, unfinished = find_runs(folder)
    runs, incomplete = pool_folds(finished)
    cells = find_cells(runs, own)
    found = judge(find_pairs(cells))
    pairs = [finding.pair for finding in found]
    report = Report(folder / "report")
    report.missing += incomplete
    for name in ("cost.json", "where.json"):
        (report.target / name).unlink(missing_ok=True)
    ablation.write_tables(report.target, cells, found)
    sections = [report.backbone(*group, found, measure) for group in ablation.by_backbone(cells).items()]
    drawn = [] if pairs else [run.folder / "plots" / "segmented.png" for run in runs[:4]]
    shown = [path for path in drawn if path.is_file() and lies_below(path, folder)]
    environment = Environment(loader=PackageLoader("segmentation.analysis", "."), autoescape=True)
    page = environment.get_template("page.html").render(
        title=folder.resolve().name,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        data=runs[0].config["data"]["name"],
        metrics=runs[0].metrics,
        num_runs=len(finished),
        num_folds=len(runs[0].members),
        held_out=is_held_out(runs[0]),
        num_deals=len({part_of(member).deal for member in runs[0].members}),
        unfinished=[path.relative_to(folder) for path in unfinished],
        sentences=ablation.sentences(cells, found),
        notes=[text for finding in found for say in (images_sentence, folds_sentence) if (text := say(finding))],
        header=ablation.HEADER,
        findings_header=ablation.FINDINGS,
        findings=ablation.finding_rows(found),
        costs_header=expense.HEADER,
        gains=report.gains(found),
        sections=sections,
        pairs=report.where(pairs, sample_of),
        segmented=[
            inline(path, f"Segmented by {path.parent.parent.name}.")
            for path in shown
            if path.is_file() and lies_below(path, folder)
        ],
        missing=report.missing,
    )
    path = report.target / "index.html"
    write_text(path, page)
    ablation.print_tables(cells, found)
    return path
