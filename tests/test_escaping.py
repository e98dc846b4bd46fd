"""Names are names: in the report, the card, the tables and the pictures, whatever is in them."""

import json
import logging
import re
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from segmentation.analysis import plots
from segmentation.analysis.ablation import markdown, print_tables
from segmentation.analysis.cells import find_cells, find_pairs
from segmentation.analysis.findings import judge
from segmentation.analysis.page import write_report
from segmentation.analysis.runs import find_runs
from segmentation.card import CARD, write_card
from segmentation.data.samples import Sample
from segmentation.errors import UserError
from segmentation.markdown import as_text
from segmentation.mistakes import explain
from segmentation.printable import OBEYED, TURNED, printable, spell_out_in_logs
from segmentation.repeats.drift import Drift
from segmentation.repeats.effect import Beside
from segmentation.repeats.tables import show as show_drifts
from segmentation.survey.sheet import contact_sheet
from segmentation.survey.tables import show
from tests import made_up
from tests.made_up import make_run
from tests.settings import saved
from tests.test_card import metrics

EVIL = [
    "<script>alert(1)</script>", "</script><script>alert(1)</script>", '" onload="alert(1)',
    "<img src=x onerror=alert(1)>", "a|b", "`code`", "a\nb", "# heading", "[link](javascript:alert(1))",
    "![x](http://x/y.png)", "{{ 7 * 7 }}", "{% raw %}", "$\\frac$", "$x$", "$", "_hidden", "[/bold]", "[bold]x",
    "\x1b[31mred", "--><b>", "&lt;b&gt;", "日本", "%s", "**b**",
]  # fmt: skip
TAGS = {"script", "b", "iframe", "object", "embed", "form", "base"}


class Page(HTMLParser):
    """What a browser would make of a page: elements, their attributes, its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def evil_runs(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs in which everything that is a name is this one."""
    classes = [name, "road", "car"]
    monkeypatch.setattr(made_up, "CLASSES", classes)
    scores = {"iou": 0.5, "accuracy": 0.5, "dice": 0.5, "pixels": 3}
    folder_name = "".join(letter for letter in name if letter not in "/\n\0")[:40] or "x"
    for lstm in ("none", "zigzag"):
        config = {
            "backbone": {"name": name}, "decoder": {"_target_": name},
            "data": {"name": name, "root": name, "classes": classes, "colours": made_up.COLOURS, "ignore_index": 255},
        }  # fmt: skip
        run = folder / f"{folder_name} {lstm}"
        make_run(
            run,
            lstm,
            0,
            0.5,
            config=config,
            split=name,
            per_class=dict.fromkeys(classes, scores),
            absent_classes=[name],
        )
        hydra = yaml.safe_load((run / ".hydra" / "hydra.yaml").read_text())
        hydra["hydra"]["runtime"]["choices"] |= {"backbone": name, "lstm": f"{name} {lstm}"}
        (run / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(hydra))
        layout = np.arange(6).reshape(1, 2, 3)
        field = np.ones((4, 6), np.float32)
        np.savez(
            run / "analysis.npz", field=field, slot_field=field, cover=np.ones(2), pooling=np.array(2),
            orders=np.array([name]), sequences=layout * 0, steps=layout, drawn_sequences=layout * 0, drawn_steps=layout,
        )  # fmt: skip
    unfinished = folder / f"{folder_name} begun" / ".hydra"
    unfinished.mkdir(parents=True)
    (unfinished / "config.yaml").write_text(yaml.safe_dump({"lstm": {"_target_": name}, "seed": 0}))


@pytest.mark.parametrize("name", [EVIL[1], EVIL[2], EVIL[3], EVIL[12]])
def test_the_page_shows_names_and_runs_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil_runs(tmp_path, name, monkeypatch)
    shapes = np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9), np.uint8)
    page = Page()
    page.feed(write_report(tmp_path, lambda _: shapes).read_text())
    assert not page.tags & TAGS
    assert not [one for one in page.attributes if one.startswith("on")]
    assert all(source.startswith("data:") for source in page.sources)
    assert " ".join(name.split()) in " ".join(page.text.split())  # and it is said
    assert sorted(tmp_path.rglob("*.html")) == [tmp_path / "report" / "index.html"]


def cells(row: str) -> int:
    return len(re.findall(r"(?<!\\)\|", row)) - 1


@pytest.mark.parametrize("name", EVIL)
def test_markdown_tables_keep_their_cells(name: str) -> None:
    rows = markdown(["a", "b"], [[name, name], ["1", "2"]]).splitlines()
    assert [cells(row) for row in rows] == [2] * 4
    assert not re.search(r"<\w", "\n".join(rows))
    assert not re.search(r"(?<!\\)\]\(", "\n".join(rows))
    assert not re.search(r"(?<!\\)`", "\n".join(rows))


@pytest.mark.parametrize(
    "name", ["efficientnet_b4", "tf_efficientnetv2_s.in1k", "lstm.order=[rows+columns]", "+2.00 [+0.7, +3]"]
)
def test_what_means_nothing_in_markdown_stays_as_it_is(name: str) -> None:
    assert as_text(name) == name


def test_the_card_says_all_names_and_its_front_matter_is_data(tmp_path: Path) -> None:
    saved(tmp_path, classes=EVIL)
    for data in EVIL:
        write_card(tmp_path, metrics(*EVIL), data)
        text = (tmp_path / CARD).read_text()
        _, front, body = text.split("---\n", 2)
        assert yaml.safe_load(front)["pipeline_tag"] == "image-segmentation"
        assert not re.search(r"<(script|img|b)\b", body)
        rows = [line for line in body.splitlines() if line.endswith("| 0.2500 | 0.5000 | 0.4000 | 7 |")]
        assert len(rows) == len(EVIL)
        assert {cells(row) for row in rows} == {5}


def test_a_card_reads_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    saved(tmp_path)
    (tmp_path / ".hydra").mkdir()
    run = {"seed": "${oc.env:SECRET}", "backbone": {"name": "${oc.env:SECRET}"}, "data": {"name": "${oc.env:SECRET}"}}
    (tmp_path / ".hydra" / "config.yaml").write_text(yaml.safe_dump(run))
    write_card(tmp_path, metrics("a"))
    assert "hunter2" not in (tmp_path / CARD).read_text()
    assert "oc.env:SECRET" in (tmp_path / CARD).read_text()


def test_pictures_spell_every_name(tmp_path: Path) -> None:
    colours = [[9 * index, 0, 0] for index in range(len(EVIL))]
    mask = np.arange(len(EVIL), dtype=np.uint8)[None].repeat(4, 0)
    image = np.zeros((*mask.shape, 3), np.uint8)
    figures = [
        plots.segmented([(image, mask, mask)], EVIL, colours, 255),
        plots.confusion_matrix(np.eye(len(EVIL), dtype=int), EVIL),
        plots.class_iou({name: {"iou": 0.5} for name in EVIL}),
        contact_sheet([(EVIL[0], Sample(image, mask, EVIL[12]))], EVIL, colours, 255, [1 / len(EVIL)] * len(EVIL)),
    ]
    for figure in figures:
        plots.save(figure, tmp_path / "x.png")
    for figure in (figures[0], figures[3]):
        legend: Any = figure.legends[0]
        assert len(legend.get_texts()) >= len(EVIL)  # none is hidden


def is_plain(text: str) -> bool:
    """Whether a terminal would show this and do nothing else."""
    return not [sign for sign in text.replace("\n", "") if sign in TURNED or unicodedata.category(sign) in OBEYED]


OBEYING = "\x1b[31mred\x1b]0;title\x07 \x9b2J \u202egnp \udcff"


def test_what_a_terminal_obeys_is_spelt_out_in_markdown_too() -> None:
    """It is read with `cat` as often as in a browser."""
    assert as_text("a\x1b[2Jb") == r"a\\x1b[2Jb"


def test_what_a_terminal_obeys_is_spelt_out() -> None:
    assert printable(OBEYING) == "\\x1b[31mred\\x1b]0;title\\x07 \\x9b2J \\u202egnp \\udcff"
    assert printable("日本 é <b> \\x") == "日本 é <b> \\x"
    assert explain(UserError(f"{OBEYING}.png: not there"), "train") == f"{printable(OBEYING)}.png: not there"


def test_logs_spell_out_names(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "_logRecordFactory", logging.getLogRecordFactory())  # restored after the test
    spell_out_in_logs()
    logging.getLogger("segmentation.runfiles").warning(f"no pixel is of {OBEYING}")
    assert is_plain(caplog.text)
    assert "\\x1b[31mred" in caplog.text


def test_a_survey_obeys_no_name(tmp_path: Path) -> None:
    for index, kind in enumerate(("images", "masks")):
        (tmp_path / "train" / kind).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 6, 3 - 2 * index), np.uint8).squeeze()).save(tmp_path / "train" / kind / "a.png")
        (tmp_path / "train" / kind / "\x1b[31mred.png").write_bytes(b"torn")
    command = [sys.executable, "-m", "segmentation.check_data", "data=folder", f"data.root={tmp_path}",
               "data.classes=[b,'\x1b[7mc']", f"hydra.run.dir={tmp_path}/out", "data.balance=1"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "\\x1b[31mred.png" in done.stdout
    assert "\\x1b[7mc" in done.stdout
    assert is_plain(done.stdout)
    assert is_plain(done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", EVIL)
def test_tables_obey_no_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_drifts([Drift("weights", 1, 1, 0.5, name)], [Beside(name, name, 1.0, 3, 0.5)])
    assert is_plain(capsys.readouterr().out)


def test_a_reports_tables_obey_no_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        make_run(tmp_path / f"n{seed}", "none", seed, 0.8)
        make_run(tmp_path / f"e{seed}", "\x1b[31mred", seed, 0.8 + seed / 100)
    cells = find_cells(find_runs(tmp_path)[0])
    print_tables(cells, judge(find_pairs(cells)))
    assert "\\x1b[31mred" in (out := capsys.readouterr().out)
    assert is_plain(out)


def test_check_datas_tables_spell_every_name(capsys: pytest.CaptureFixture[str]) -> None:
    split = {
        "images": 1, "unreadable": 0, "sizes": {"1x1": 1}, "void_share": 0.0,
        "classes": {name: {"share": 0.1, "images": 1} for name in EVIL},
    }  # fmt: skip
    content = {"splits": {"[/bold]": split}, "class_weights": [1.0] * len(EVIL), "findings": []}
    show(json.loads(json.dumps(content)), [])
    assert "\\x1b[31mred" in (out := capsys.readouterr().out)
    assert is_plain(out)
    assert "[/bold]: pixels" in " ".join(out.split()) or Console().width < 100
