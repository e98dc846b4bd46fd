"""Exported networks: equal to the original at sizes and batches they were not traced with, and refused where not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from segmentation import load_model
from segmentation.errors import UserError
from segmentation.evaluate import described_data
from segmentation.export import export
from segmentation.models.export import compare, formats
from segmentation.models.export.tracing import EXAMPLE
from segmentation.models.files import DESCRIPTION
from segmentation.predict import predict
from tests.conftest import Compose
from tests.settings import saved

CONTROLS = "segmentation.models.controls."
NONE: dict[str, Any] = {"lstm___target_": f"{CONTROLS}identity"}
SUFFIX = {name: known.suffix for name, known in formats.FORMATS.items()}


def meta_of(network: nn.Module) -> dict[str, Any]:
    meta: Any = network.meta
    return dict(meta)


def difference(first: nn.Module, second: nn.Module, *shape: int) -> float:
    image = torch.rand(shape[0], 3, *shape[1:])
    with torch.inference_mode():
        return float((first(image) - second(image)).abs().max())


@pytest.mark.parametrize("form", SUFFIX)
def test_without_a_scan_any_size_will_do(tmp_path: Path, form: str) -> None:
    network = saved(tmp_path, **NONE)
    path = tmp_path / f"any{SUFFIX[form]}"
    fixed, found = export(str(tmp_path), path, form=form)
    assert fixed is None
    assert {(row.height, row.width) for row in found} > {EXAMPLE}
    loaded = load_model(path, trust=True)
    assert meta_of(loaded)["classes"] == list("abc")
    for shape in ((1, 64, 64), (5, 40, 70), (1, 10, 200), (2, 192, 96)):  # padded on both sides, on one, on none
        assert difference(network, loaded, *shape) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("form", SUFFIX)
@pytest.mark.parametrize("control", ["MLP", "Convolution", "Attention"])
def test_controls_take_any_size(tmp_path: Path, form: str, control: str) -> None:
    saved(tmp_path, lstm___target_=CONTROLS + control)
    fixed, _ = export(str(tmp_path), tmp_path / f"any{SUFFIX[form]}", form=form)
    assert fixed is None


@pytest.mark.parametrize("form", SUFFIX)
def test_a_scan_fixes_the_size_but_not_the_batch(tmp_path: Path, form: str) -> None:
    network = saved(tmp_path, size=[40, 70], lstm__order=["rows", "windows"], lstm__order_args={"size": 2})
    path = tmp_path / f"fixed{SUFFIX[form]}"
    assert export(str(tmp_path), path, form=form)[0] == [40, 70]
    loaded = load_model(path, trust=True)
    assert difference(network, loaded, 4, 40, 70) < 1e-5
    with pytest.raises(UserError, match=r"takes images of \[40, 70\] only, not \[64, 70\]"):
        loaded(torch.rand(1, 3, 64, 70))


@pytest.mark.slow
@pytest.mark.parametrize("form", SUFFIX)
@pytest.mark.parametrize(
    ("cell", "orders"),
    [
        ("gru", ["columns", "raster", "snake", "zigzag", "spiral", "hilbert", "shuffle"]),
        ("minlstm", ["zigzag"]),
        ("mingru", ["columns"]),
    ],
)
def test_every_cell_and_order(tmp_path: Path, form: str, cell: str, orders: list[str]) -> None:
    saved(tmp_path, size=[70, 100], lstm__cell=cell, lstm__order=orders, lstm__combine="sum")
    export(str(tmp_path), tmp_path / f"fixed{SUFFIX[form]}", form=form)


def test_the_size_asked_for_is_the_one_it_takes(tmp_path: Path) -> None:
    saved(tmp_path, size=[40, 70])
    assert export(str(tmp_path), tmp_path / "m.pt2", form="torch", size=[64, 96])[0] == [64, 96]
    assert meta_of(load_model(tmp_path / "m.pt2", trust=True))["size"] == [64, 96]
    saved(tmp_path)
    with pytest.raises(UserError, match=r"give size=\[height,width\]"):
        export(str(tmp_path), tmp_path / "other.pt2", form="torch")


def test_what_differs_is_not_written(tmp_path: Path) -> None:
    saved(tmp_path, **NONE)
    (tmp_path / "m.onnx").write_text("of before")
    with pytest.raises(UserError, match=r"m\.onnx: not written, for its logits differ"):
        export(str(tmp_path), tmp_path / "m.onnx", tolerance=0)
    assert (tmp_path / "m.onnx").read_text() == "of before"
    assert not list(tmp_path.glob("*.partial*"))


def test_a_difference_is_measured() -> None:
    """A logit that is off by a half in a single pixel of the last image."""
    first = nn.Conv2d(3, 2, 1)

    class Off(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = first(image).clone()
            logits[-1, 0, 0, 0] += 0.5
            return logits

    found = compare.compare(first, Off(), [(8, 8)])
    assert [row.batch for row in found] == list(compare.BATCHES)
    assert all(row.logits == pytest.approx(0.5) for row in found)
    assert compare.compare(first, first, [(8, 8)])[0].labels == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "onyx"}, "format=onyx: no such format; did you mean 'onnx'"),
        ({"form": "torch"}, "must end in .pt2"),
        ({"size": [3]}, r"size=\[3\]: give"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        export(str(tmp_path), tmp_path / "m.onnx", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", SUFFIX)
def test_predict_runs_the_file_alone(tmp_path: Path, form: str) -> None:
    run = tmp_path / "run"
    saved(run, size=[40, 70])
    picture = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)).save(picture)
    path = tmp_path / "alone" / f"m{SUFFIX[form]}"
    export(str(run), path, form=form)
    masks = [
        np.asarray(Image.open(predict(str(model), str(picture), str(tmp_path / name), "cpu", trust=True)[0]))
        for name, model in (("first", run), ("second", path))
    ]
    assert masks[0].shape == (90, 120)
    assert (masks[0] == masks[1]).mean() > 0.999


def test_strangers_files(tmp_path: Path, compose: Compose) -> None:
    """A program may hold pickles; a file of another program, or a broken one, is not a model."""
    for name in ("m.pt2", "m.onnx"):
        (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(UserError, match="trust=true"):
        load_model(tmp_path / "m.pt2")
    for name in ("m.pt2", "m.onnx"):
        with pytest.raises(UserError, match=f"{name}: .* cannot read it"):
            load_model(tmp_path / name, trust=True)
    with pytest.raises(UserError, match="predict alone"):
        described_data(compose(f"model={tmp_path / 'm.onnx'}", name="evaluate"), [], chosen=False)


def test_a_model_in_a_notebook(tmp_path: Path) -> None:
    network = saved(tmp_path, size=[40, 70])
    loaded = load_model(tmp_path)
    assert isinstance(loaded, nn.Module)
    assert not loaded.training
    assert difference(network, loaded, 2, 50, 60) == 0
    assert meta_of(loaded) == json.loads((tmp_path / DESCRIPTION).read_text())["meta"]


def test_importing_the_package_imports_no_torch() -> None:
    code = "import segmentation, sys; sys.exit('torch' in sys.modules or hasattr(segmentation, 'nothing'))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
