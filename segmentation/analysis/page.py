"""The report of a run or a sweep: one HTML page that needs nothing else, with its tables and pictures beside it."""

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure
from PIL import Image

from segmentation.analysis import ablation, plots
from segmentation.analysis.findings import Finding, images_sentence, judge
from segmentation.analysis.metrics import metric
from segmentation.analysis.pictures import Pixels, changes, colourise
from segmentation.analysis.runs import Cell, Pair, Run, find_cells, find_pairs, find_runs
from segmentation.errors import UserError

# name of a test image -> (image [H, W, 3], truth [H, W])
SampleOf = Callable[[str], tuple[Pixels, Pixels]]
SHADES = ["#6e7781", "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#cf222e"]


def write_report(folder: Path, sample_of: SampleOf | None) -> Path:
    """Write `folder/report/`: index.html, ablation.{md,csv,json}, and the PNGs of the page.

    Args:
        folder: a run or a sweep.
        sample_of: a test image and its mask by name; None leaves the pictures that need them out.

    Returns:
        The page.
    """
    runs, unfinished = find_runs(folder)
    cells = find_cells(runs)
    pairs = find_pairs(cells)
    target = folder / "report"
    target.mkdir(exist_ok=True)
    found = judge(pairs)
    ablation.write_tables(target, cells, found)
    metrics = runs[0].metrics
    sections = [backbone_section(target, *group, found) for group in ablation.by_backbone(cells).items()]
    galleries, missing = [], ["the images and masks of the test split"] if pairs and sample_of is None else []
    for pair in pairs if sample_of else []:
        try:
            galleries += [gallery for gallery in [draw_gallery(target, pair, sample_of)] if gallery]
        except (FileNotFoundError, UserError) as error:
            missing.append(str(error))
    if not pairs:
        shown = (inline(run.folder / "plots" / "segmented.png", f"Segmented by {run.folder.name}.") for run in runs[:4])
        galleries = [gallery for gallery in shown if gallery]
    environment = Environment(loader=PackageLoader("segmentation.analysis", "."), autoescape=True)
    page = environment.get_template("page.html").render(
        title=folder.resolve().name,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        data=runs[0].config["data"]["name"],
        metrics=metrics,
        num_runs=len(runs),
        unfinished=[path.relative_to(folder) for path in unfinished],
        sentences=ablation.sentences(found),
        images=[text for finding in found if (text := images_sentence(finding))],
        header=ablation.HEADER,
        findings_header=ablation.FINDINGS,
        findings=ablation.finding_rows(found),
        sections=sections,
        galleries=galleries,
        missing=missing,
    )
    path = target / "index.html"
    path.write_text(page)
    ablation.print_tables(cells, found)
    return path


def inline(path: Path, caption: str) -> dict[str, str] | None:
    """A PNG as part of the page itself; None where it is not there."""
    if not path.is_file():
        return None
    return {"source": "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(), "caption": caption}


def backbone_section(target: Path, backbone: str, cells: Sequence[Cell], found: Sequence[Finding]) -> dict[str, Any]:
    """A backbone's table and curves."""
    safe = "".join(letter if letter.isalnum() else "_" for letter in backbone)
    path = target / f"curves_{safe}.png"
    plots.save(draw_curves(cells), path)
    caption = "On the validation split, after every epoch: a thin line for each seed, a thick one for their mean."
    return {"name": backbone, "rows": ablation.table_rows(cells, found), "curves": inline(path, caption)}


def draw_curves(cells: Sequence[Cell]) -> Figure:
    """Validation accuracy and mean IoU over the epochs, a colour for each cell."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    titles = {"val/pixel_accuracy": "Pixel accuracy", "val/mean_iou": "Mean IoU"}
    for axes, (key, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for position, cell in enumerate(cells):
            colour = SHADES[position % len(SHADES)]
            lines = [[row[key] for row in run.history if key in row] for run in cell.runs]
            lines = [line for line in lines if line]
            for line in lines:
                axes.plot(range(1, len(line) + 1), line, color=colour, linewidth=0.7, alpha=0.5)
            if lines:
                shared = min(map(len, lines))
                mean = np.mean([line[:shared] for line in lines], 0)
                marker = "o" if shared == 1 else None  # a line of one point would not show
                axes.plot(range(1, shared + 1), mean, color=colour, linewidth=2.2, label=cell.label, marker=marker)
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        plots.tidy(axes)
    if figure.axes[0].lines:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_gallery(target: Path, pair: Pair, sample_of: SampleOf | None) -> dict[str, str] | None:
    """Image, truth, both predictions and what changed, for the images that the change helped and hurt most."""
    if not pair.seeds or sample_of is None:
        return None
    seed = pair.seeds[0]
    base, other = pair.base.by_seed()[seed], pair.other.by_seed()[seed]
    data = base.config["data"]
    rows = []
    for name in telling_images(pair):
        image, truth = sample_of(name)
        before, after = (np.asarray(Image.open(run.prediction(name))) for run in (base, other))
        masks = [colourise(mask, data["colours"]) for mask in (truth, before, after)]
        rows.append([image, *masks, changes(truth, before, after, data["ignore_index"])])
    short = [pair.base.choices.get(pair.group, "without"), pair.other.choices.get(pair.group, "with")]
    titles = ["image", "truth", *map(str, short), "repaired, broken"]
    figure = plots.picture_grid(rows, titles, data["classes"], data["colours"])
    safe = "".join(letter if letter.isalnum() else "_" for letter in f"{pair.base.label}_{pair.other.label}")
    path = target / f"pictures_{safe}.png"
    plots.save(figure, path)
    caption = (
        f"{pair.other.label} against {pair.base.label}, seed {seed}. Last column: green where only {short[1]} "
        f"is right, red where only {short[0]} is, black is void. From the top: two images that gained most, two in the "
        "middle, two that lost most."
    )
    return inline(path, caption)


def telling_images(pair: Pair) -> list[str]:
    """Names of the images to show: the two that gained most accuracy over all common seeds, two in the middle, the two
    that lost most.
    """
    base, other = pair.base.by_seed(), pair.other.by_seed()
    gains: list[npt.NDArray[np.float64]] = []
    names: list[str] = []
    for seed in pair.seeds:
        before, names = image_accuracy(base[seed])
        after, _ = image_accuracy(other[seed])
        gains.append(after - before)
    ranked = [names[position] for position in np.argsort(-np.mean(gains, 0), kind="stable")]
    middle = len(ranked) // 2
    return list(dict.fromkeys(ranked[:2] + ranked[middle : middle + 2] + ranked[-2:]))


def image_accuracy(run: Run) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Pixel accuracy and name of every test image of a run."""
    counted = run.confusions()
    assert counted is not None
    return np.nan_to_num(metric("pixel_accuracy", counted.confusion)), counted.names
