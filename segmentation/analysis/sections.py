"""The sections of a report: tables and pictures, each left out with a reason where what it needs is not there."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape
from matplotlib.figure import Figure

from segmentation.analysis import ablation, expense, plots, reach_figures, where_figures
from segmentation.analysis.cells import Cell, Pair
from segmentation.analysis.curves import SHADES, draw_curves
from segmentation.analysis.expense import Bench
from segmentation.analysis.findings import Finding
from segmentation.analysis.gallery import draw_gallery
from segmentation.analysis.scan_drawings import draw_scan
from segmentation.analysis.spans import draw_gains
from segmentation.analysis.tally import SampleOf
from segmentation.analysis.where import Where, as_rows, comparable, examine
from segmentation.errors import UserError
from segmentation.whole import write_text

# Cells of one backbone -> what they cost on this machine.
Measure = Callable[[Sequence[Cell]], Bench]
Section = dict[str, Any]

PNG = b"\x89PNG\r\n\x1a\n"  # how every one begins


class Report:
    """Collects the sections of a page, and what had to be left out of them.

    Args:
        target: the folder for the page's files.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.missing: list[str] = []
        target.mkdir(exist_ok=True)

    def picture(self, figure: Figure, name: str, caption: str) -> dict[str, str]:
        """Write a figure as PNG, and give it as part of the page itself."""
        path = self.target / f"{file_name(name)}.png"
        plots.save(figure, path)
        return inline(path, caption)

    def gains(self, found: Sequence[Finding]) -> dict[str, str] | None:
        """All pairs in one picture; None where there are none."""
        caption = (
            "What the first network gains over the second: each seed, their mean, and its 95 % interval. Filled where "
            "it is more than chance, corrected for the number of pairs in either panel."
        )
        return self.picture(draw_gains(found), "gains", caption) if found else None

    def backbone(self, name: str, cells: Sequence[Cell], found: Sequence[Finding], measure: Measure | None) -> Section:
        """All that stands under one backbone's name: table, curves, costs, and how far its networks see."""
        caption = "On the validation split, after every epoch: a thin line for each seed, a thick one for their mean."
        curves = self.picture(draw_curves(cells), f"curves {name}", caption)
        section: Section = {"name": name, "rows": ablation.table_rows(cells, found), "curves": curves}
        return section | {"costs": self.costs(name, cells, found, measure), "reach": self.reach(name, cells)}

    def costs(
        self, name: str, cells: Sequence[Cell], found: Sequence[Finding], measure: Measure | None
    ) -> Section | None:
        """What the cells cost, measured now."""
        if measure is None:
            return None
        try:
            bench = measure(cells)
        except Exception as error:  # measuring, on whatever machine this is, must not cost the user the report
            self.missing.append(f"what the networks of {name} cost ({' '.join(str(error).split())[:300]})")
            return None
        path = self.target / "cost.json"
        known = json.loads(path.read_text()) if path.is_file() else {}
        write_text(path, json.dumps({**known, name: expense.as_json(bench)}, indent=2) + "\n")
        return {"rows": expense.expense_rows(cells, found, bench), "note": str(bench)}

    def reach(self, name: str, cells: Sequence[Cell]) -> Section | None:
        """Receptive fields and scans, from what the runs took from their networks."""
        try:
            return self.drawn_reach(name, cells)
        except (IndexError, KeyError, ValueError, TypeError) as error:  # arrays that do not fit each other
            self.missing.append(f"how far the networks of {name} see: their analysis.npz are not of one map ({error})")
            return None

    def drawn_reach(self, name: str, cells: Sequence[Cell]) -> Section | None:
        """As `reach`, from files that fit."""
        reaches, without = reach_figures.find_reach(cells)
        if without:
            self.missing.append(
                f"how far {', '.join(without)} see: analysis.npz is not there, not of one size, or not finite"
            )
        if not reaches:
            return None
        fields = self.picture(
            reach_figures.draw_fields(reaches),
            f"fields {name}",
            "Effective receptive field: how much each pixel of the input moves the middle pixel's logit (mean absolute "
            f"gradient over test images and seeds). {reach_figures.describe(reaches)}",
        )
        falloff = self.picture(
            reach_figures.draw_falloff(
                reaches, SHADES, next((cell.label for cell in cells if cell.role == "none"), None)
            ),
            f"falloff {name}",
            "How that influence falls with distance: in the plane, over the input's pixels; and in steps of the "
            "network's own scan, over the map that enters it (dashed: its second scan; dotted: the network without "
            "a scan, along the same way).",
        )
        return {"pictures": [fields, falloff], "scans": [scan for reach in reaches for scan in scans_of(reach)]}

    def where(self, pairs: Sequence[Pair], sample_of: SampleOf | None) -> list[Section]:
        """A section for each pair: where it differs, in figures and pictures."""
        if not pairs:
            return []
        if sample_of is None:
            self.missing.append("where the networks differ: the images and masks of the test split are not there")
            return []
        usable, without = comparable(pairs)
        self.missing += [f"where the networks differ: {reason}" for reason in without]
        try:
            found = examine(usable, sample_of)
            sections = [self.pair(where, sample_of) for where in found]
        except (
            OSError,
            ValueError,
            KeyError,
            UserError,
        ) as error:  # predictions or masks missing, torn or of other data
            self.missing.append(f"where the networks differ: {error}")
            return []
        write_text(self.target / "where.json", json.dumps(as_rows(found), indent=2) + "\n")
        return sections

    def pair(self, where: Where, sample_of: SampleOf) -> Section:
        """Where one pair differs."""
        name = f"{where.pair.base.label} {where.pair.other.label}"
        changes = self.picture(
            where_figures.draw_changes(where),
            f"where {name}",
            f"{where.pair.other.label} - {where.pair.base.label}: change of each class's IoU, and of the accuracy in "
            "each kind of pixel, with its share of all pixels; edges of void count as boundaries. A point is the mean "
            f"over seeds, a tick one seed, a line the 95 % interval over {where.units.words}, for these trained "
            "networks; full and blue where it and the t interval over seeds both leave out zero, uncorrected for the "
            "number of lines.",
        )
        images = self.picture(where_figures.draw_images(where), f"images {name}", where_figures.describe_images(where))
        gallery = self.picture(*reorder(draw_gallery(where.pair, sample_of), f"pictures {name}"))
        return {
            "name": f"{where.pair.other.label} against {where.pair.base.label}",
            "pictures": [changes, images, gallery],
        }


def inline(path: Path, caption: str) -> dict[str, str]:
    """A PNG as part of the page itself, which is made to be shared: what else a link might lead to stays out of it.

    Raises:
        UserError: for a file that is no PNG.
    """
    content = path.read_bytes()
    if not content.startswith(PNG):
        raise UserError(f"{path}: no PNG; remove it, or test the run again")
    return {"source": "data:image/png;base64," + base64.b64encode(content).decode(), "caption": caption}


def file_name(name: str) -> str:
    """A name for a file, of no more than 90 characters, that no other name has."""
    safe = "".join(letter if letter.isalnum() else "_" for letter in name)
    return (
        safe if len(safe) <= 80 and "__" not in safe else f"{safe[:80]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    )


def reorder(drawn: tuple[Figure, str], name: str) -> tuple[Figure, str, str]:
    return drawn[0], name, drawn[1]


def scans_of(reach: reach_figures.Reach) -> list[Mapping[str, Any]]:
    """A drawing of each scan of a cell, on the small map that its analysis holds."""
    arrays = reach.arrays
    if "orders" not in arrays:
        return []
    layouts = zip(arrays["orders"].tolist(), arrays["drawn_sequences"], arrays["drawn_steps"], strict=True)
    return [
        {
            "label": f"{reach.label}: {order}" if order != reach.label else order,
            "drawing": Markup(draw_scan(sequences, steps, str(escape(f"scan order {order}")))),
        }
        for order, sequences, steps in layouts
    ]
