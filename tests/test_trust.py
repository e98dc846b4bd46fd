"""Files from elsewhere may only name what the project itself defines."""

import json
from pathlib import Path

import pytest
import yaml

from segmentation.config import CONF
from segmentation.errors import UserError
from segmentation.models.files import rebuild
from segmentation.targets import is_ours


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("segmentation.models.controls.MLP", True),
        ("segmentation.models.controls.identity", True),
        ("segmentation.data.reader.FileReader", True),
        ("segmentation.models.controls.torch.hub.load", False),  # what a module imports is not its own
        ("segmentation.models.controls.Tensor", False),
        ("segmentation.models.files.importlib.import_module", False),
        ("segmentation.data.images.Image.open", False),
        ("segmentation.models.nothing.Here", False),
        ("segmentation_models_pytorch.Unet", True),
        ("segmentation_models_pytorch.torch.hub.load", False),
        ("segmentation_models_pytorch.base.initialization.nn.Linear", False),
        ("os.system", False),
        ("segmentation.modelsx.Evil", False),
    ],
)
def test_only_what_the_project_defines_is_its_own(name: str, wanted: bool) -> None:
    assert is_ours(name) is wanted


@pytest.mark.parametrize(
    "path", sorted(CONF.glob("decoder/*.yaml")) + sorted(CONF.glob("lstm/*.yaml")), ids=lambda path: path.stem
)
def test_every_part_of_the_configuration_is_the_projects_own(path: Path) -> None:
    target = (yaml.safe_load(path.read_text()) or {}).get("_target_", "segmentation.models.spatial_lstm.SpatialLSTM")
    assert is_ours(target)


def test_a_description_cannot_reach_through_the_projects_modules(tmp_path: Path) -> None:
    target = {
        "_target_": "segmentation.models.controls.torch.hub.load",
        "repo_or_dir": str(tmp_path),
        "source": "local",
    }
    (tmp_path / "hubconf.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')")
    model = {"backbone": {"name": "resnet18"}, "decoder": {}, "lstm": target | {"model": "x"}}
    (tmp_path / "model.json").write_text(json.dumps({"format": 1, "model": model, "meta": {"classes": ["a", "b"]}}))
    with pytest.raises(UserError, match=r"lstm\._target_ names 'segmentation\.models\.controls\.torch\.hub\.load'"):
        rebuild(tmp_path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(("key", "name"), [("cell", "os.system"), ("order", "torch.hub.load")])
def test_a_cell_or_an_order_is_not_imported_from_anywhere(key: str, name: str, tmp_path: Path) -> None:
    lstm = {"_target_": "segmentation.models.spatial_lstm.SpatialLSTM", key: name}
    model = {"backbone": {"name": "resnet18"}, "decoder": {}, "lstm": lstm}
    (tmp_path / "model.json").write_text(json.dumps({"format": 1, "model": model, "meta": {"classes": ["a", "b"]}}))
    with pytest.raises(UserError, match=rf"lstm\.{key} names '{name}'"):
        rebuild(tmp_path)


@pytest.mark.parametrize("target", ["${cmd}", "${oc.env:X}", "system", ""])
def test_a_name_that_is_only_made_while_building_is_no_name(target: str, tmp_path: Path) -> None:
    evil = {"cmd": "pathlib.Path.touch", "extra": {"_target_": target, "_args_": [str(tmp_path / "pwned")]}}
    for lstm in (
        evil,
        {"_target_": "segmentation.models.spatial_lstm.SpatialLSTM", "cell": "${cmd}", "cmd": "os.system"},
    ):
        model = {"backbone": {"name": "resnet18"}, "decoder": {}, "lstm": lstm}
        description = {"format": 1, "model": model, "meta": {"classes": ["a", "b"]}}
        (tmp_path / "model.json").write_text(json.dumps(description))
        with pytest.raises(UserError, match="not the project's own"):
            rebuild(tmp_path)
    assert not (tmp_path / "pwned").exists()
