"""The report and TensorBoard as a real browser shows them: pictures are there, nothing overflows or complains."""

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from segmentation.analysis.page import write_report
from segmentation.train import train
from tests.browser import PROGRAM, Browser, started
from tests.conftest import Compose
from tests.made_up import make_sweep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium here; install Debian's package chromium"),
]
PICTURES = "[...document.images].map(image => image.naturalWidth)"
# TensorBoard's older pages are made of elements with roots of their own, and one of its pages lies in a frame.
EVERYWHERE = """
function everywhere(root, selector) {
    const found = [...root.querySelectorAll(selector)];
    for (const element of root.querySelectorAll('*')) {
        if (element.shadowRoot) found.push(...everywhere(element.shadowRoot, selector));
        if (element.tagName === 'IFRAME' && element.contentDocument)
            found.push(...everywhere(element.contentDocument, selector));
    }
    return found;
}
function words(root = document.body) {
    let text = '';
    for (const node of root.childNodes) {
        if (node.nodeType === 3) text += node.textContent + ' ';
        else if (node.tagName === 'IFRAME' && node.contentDocument) text += words(node.contentDocument.body);
        else if (!['SCRIPT', 'STYLE', 'TEMPLATE', 'DOM-MODULE'].includes(node.tagName)) {
            if (node.shadowRoot) text += words(node.shadowRoot);
            text += words(node);
        }
    }
    return text;
}
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with started(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@contextlib.contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """The address of a TensorBoard that has read the runs in a folder."""
    words = ["--logdir", str(folder), "--host", "127.0.0.1", "--port", "0", "--load_fast=false"]
    with subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *words], stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://127[\d.:]+", line)))
            end = time.monotonic() + 60
            while not json.load(urllib.request.urlopen(f"{address}/data/runs")):
                assert time.monotonic() < end
                time.sleep(0.25)
            yield address
        finally:
            server.terminate()


@pytest.mark.parametrize("width", [1200, 420])
def test_the_report_shows_its_pictures_at_any_width(browser: Browser, tmp_path: Path, width: int) -> None:
    shapes = np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9), np.uint8)
    page = write_report(make_sweep(tmp_path), lambda name: shapes)
    browser.open(page.as_uri(), width)
    widths = browser.ask(PICTURES)
    assert len(widths) >= 4
    assert all(widths)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.complaints == []


def test_what_the_browser_complains_of_is_heard(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text("<img src=gone.png><script>console.error('a'); nothing.here</script>")
    browser.open((tmp_path / "bad.html").as_uri(), 600)
    assert browser.ask(PICTURES) == [0]
    assert len(browser.complaints) == 3


def test_tensorboard_shows_curves_pictures_and_final_scores(browser: Browser, tiny: Compose, tmp_path: Path) -> None:
    train(tiny("lstm=none", "trainer.max_epochs=2", "callbacks.inspection.images=0"))
    score = json.loads((tmp_path / "run" / "metrics.json").read_text())["pixel_accuracy"]
    with tensorboard(tmp_path / "run" / "tensorboard") as address:
        browser.open(f"{address}/#custom_scalars", 1200)
        browser.ask(EVERYWHERE)
        browser.wait("['mean IoU', 'pixel accuracy', 'loss', 'learning rates'].every(title => words().includes(title))")
        assert browser.complaints == []
        browser.open("about:blank", 1200)
        browser.open(f"{address}/#images", 1200)
        browser.ask(EVERYWHERE)
        browser.wait("everywhere(document, 'img').some(image => image.naturalWidth > 500)")
        assert browser.complaints == []
        browser.open("about:blank", 1200)
        browser.open(f"{address}/#hparams", 2400)  # as wide as its table
        browser.ask(EVERYWHERE)
        shown = browser.wait(f"words().includes('{score:#.5g}') && words()")
        assert "final/pixel_accuracy" in shown
        assert "backbone.name" in shown
        assert browser.complaints == []
