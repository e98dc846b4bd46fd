"""docs/reference says what the code says."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
MENDED_BY = "docs/reference no longer says what the code says; run `make docs` and commit what it writes"


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        return runpy.run_path(str(ROOT / "docs" / "make_reference.py"))


def test_pages_are_those_of_the_code(generator: dict[str, Any]) -> None:
    written = {str(path.relative_to(REFERENCE)): path.read_text() for path in REFERENCE.rglob("*.md")}
    assert written == generator["pages"](), MENDED_BY


def test_every_key_of_the_code_is_explained(generator: dict[str, Any]) -> None:
    """A comment, a docstring and an option each reach their page, however many lines they take."""
    pages = generator["pages"]()
    assert "| `name` | `str` | required | any timm model with feature maps |" in pages["groups/backbone.md"]
    assert "(timm's)" in pages["groups/backbone.md"]  # the comment stands inside of brackets
    assert r"lstm \| gru" in pages["groups/lstm.md"]
    assert "boustrophedon" in pages["groups/lstm.md"]
    assert "- `label_smoothing`: share of each target" in pages["groups/loss.md"]
    assert "`--no-cost`" in pages["commands/report.md"]
    assert "`seed`" in pages["commands/benchmark.md"]  # inherited
    assert "[`decoder=`](../groups/decoder.md) | `fcn`" in pages["commands/train.md"]


def test_no_key_is_without_a_word(generator: dict[str, Any]) -> None:
    rows = [(page, line) for page, text in generator["pages"]().items() for line in text.splitlines()]
    assert not [row for row in rows if row[1].endswith("|  |")]
    assert not [page for page, line in rows if line == "## Keys" and generator["pages"]()[page].endswith("---|\n")]


def test_links_lead_to_pages(generator: dict[str, Any]) -> None:
    pages = generator["pages"]()
    for name, text in pages.items():
        for link in re.findall(r"\]\(([^)]+\.md)\)", text):
            resolved = ((REFERENCE / name).parent / link).resolve()
            assert str(resolved.relative_to(REFERENCE.resolve())) in pages
