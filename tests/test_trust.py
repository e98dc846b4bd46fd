"""Files from elsewhere may only name what the project itself defines."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from segmentation.config import CONF
from segmentation.errors import UserError
from segmentation.evaluate import described_data
from segmentation.models.decoders import build_features
from segmentation.models.files import load_model, rebuild
from segmentation.report import find_samples
from segmentation.targets import is_ours
from tests import settings
from tests.conftest import Compose
from tests.made_up import make_run


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


LSTM = "segmentation.models.spatial_lstm.SpatialLSTM"
IDENTITY = "segmentation.models.controls.identity"
FETCH = {"_target_": "segmentation.data.download.download", "source": {"files": []}, "root": "here", "name": "x"}
# (group, its content): all would be imported, or called, while the network is built.
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "eval": ("lstm", {"_target_": "builtins.eval", "_args_": ["1"]}),
    "get_method": ("lstm", {"_target_": "hydra.utils.get_method", "path": "os.system"}),
    "instantiate": ("lstm", {"_target_": "hydra.utils.instantiate", "config": {"_target_": "os.system"}}),
    "through a module's attributes": ("lstm", {"_target_": "segmentation.models.files.Path.touch"}),
    "a function of ours that is no part": ("lstm", FETCH),
    "nested, as an argument of nothing": ("lstm", {"_target_": IDENTITY, "extra": FETCH}),
    "nested in a list": ("lstm", {"_target_": IDENTITY, "extra": [[FETCH]]}),
    "nested in the order's arguments": ("lstm", {"_target_": LSTM, "order_args": {"size": FETCH}}),
    "nested in the backbone": ("backbone", {"name": "resnet18", "args": {"x": FETCH}}),
    "a decoder for an LSTM": ("lstm", {"_target_": "segmentation_models_pytorch.Unet", "encoder_weights": "imagenet"}),
    "what loads from the hub": ("decoder", {"_target_": "segmentation_models_pytorch.from_pretrained"}),
    "an encoder's function": ("decoder", {"_target_": "segmentation_models_pytorch.encoders.get_encoder"}),
    "partial": ("lstm", {"_target_": LSTM, "_partial_": True}),
    "arguments by place": ("lstm", {"_target_": LSTM, "_args_": [1]}),
    "not recursive": ("decoder", {"_target_": "segmentation.models.decoders.FCN", "_recursive_": False}),
    "a resolver": ("lstm", {"_target_": LSTM, "hidden_size": "${oc.env:HOME}"}),
    "a resolver in a list": ("lstm", {"_target_": LSTM, "order": ["rows", "${oc.decode:'x'}"]}),
    "a target that is a list": ("lstm", {"_target_": ["os.system"]}),
    "an order that is no order": ("lstm", {"_target_": LSTM, "order": "segmentation.data.download.unpack"}),
    "an order in a list": ("lstm", {"_target_": LSTM, "order": ["rows", "os.system"]}),
    "a cell that is a function": ("lstm", {"_target_": LSTM, "cell": "segmentation.models.files.load_model"}),
    "relative": ("lstm", {"_target_": "segmentation.models..controls.MLP"}),
    "zero": ("lstm", {"_target_": "segmentation.models.\0.MLP"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_nothing_but_a_part_in_its_place_is_called(name: str, tmp_path: Path) -> None:
    group, content = CALLS[name]
    settings.saved(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    description["model"][group] = {**description["model"][group], **content}
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match="not the project's own") as caught:
        load_model(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "key", ["pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"]
)
@pytest.mark.parametrize("group", ["backbone", "decoder"])
def test_weights_come_from_nowhere_else(group: str, key: str) -> None:
    model = settings.model("test_resnet")
    (model["backbone"]["args"] if group == "backbone" else model["decoder"])[key] = "http://127.0.0.1:1/x"
    with pytest.raises(UserError, match=rf"{key}: where weights come from is for backbone\.weights to say"):
        build_features(model["backbone"], model["decoder"], load_weights=False)


READERS = ["os.system", "builtins.eval", "segmentation.data.download.download", "segmentation.data.reader.Path",
           "pathlib.Path", "evil.Reader", "${oc.env:X}", None, 5]  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_a_runs_data_is_read_by_the_projects_readers_alone(
    reader: Any, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')\nclass Reader: exists = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings.saved(tmp_path / "model")
    make_run(tmp_path / "model", "none", 0, 0.5)
    path = tmp_path / "model" / ".hydra" / "config.yaml"
    run = yaml.safe_load(path.read_text())
    run["data"] |= {"reader": {"_target_": reader}, "splits": {"test": None}}
    path.write_text(yaml.safe_dump(run))
    words = [f"model={tmp_path / 'model'}"]
    with pytest.raises(UserError, match="not the project's own"):
        described_data(compose(*words, name="evaluate"), words, chosen=False)
    assert find_samples(tmp_path, trust=False) is None
    assert not (tmp_path / "pwned").exists()


def test_a_runs_data_says_nothing_of_where_to_write_or_how_much(compose: Compose, tmp_path: Path) -> None:
    settings.saved(tmp_path)
    (tmp_path / ".hydra").mkdir()
    data = yaml.safe_load((CONF / "data" / "synthetic.yaml").read_text())
    path, words = tmp_path / ".hydra" / "config.yaml", [f"model={tmp_path}"]
    config = compose(*words, name="evaluate")
    path.write_text(yaml.safe_dump({"data": data | {"cache": str(tmp_path), "download": True}}))
    found = described_data(config, words, chosen=False).data
    assert (found.cache, found.download) == ("auto", False)
    for key, value in {"num_workers": 10**6, "size": [10**6, 10**6], "eval_batch_size": -1, "classes": []}.items():
        path.write_text(yaml.safe_dump({"data": data | {key: value}}))
        with pytest.raises(UserError, match=rf"data\.{key}="):
            described_data(config, words, chosen=False)
