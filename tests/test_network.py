"""Every decoder on every kind of backbone: any image size, a gradient everywhere, and files that rebuild it exactly."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from segmentation.config import CONF
from segmentation.errors import UserError
from segmentation.models.decoders import build_features
from segmentation.models.files import load_model, save_model
from segmentation.models.network import Network, build_network
from tests.settings import model

DECODERS = sorted(path.stem for path in (CONF / "decoder").glob("*.yaml"))
SIZES = [(96, 128), (33, 47), (1, 130), (64, 64)]


def build(*arguments: str, **changes: Any) -> Network:
    torch.manual_seed(0)
    return build_network(model(*arguments, **changes), 5)


@pytest.mark.parametrize("decoder", DECODERS)
def test_any_size_and_a_gradient_everywhere(decoder: str) -> None:
    network = build("resnet18", decoder)
    for size in SIZES:
        assert network(torch.rand(2, 3, *size)).shape == (2, 5, *size)
    network(torch.rand(2, 3, 40, 72), size=(31, 50)).square().sum().backward()
    missing = [name for name, value in network.named_parameters() if value.requires_grad and value.grad is None]
    assert missing == []
    assert sum(value.requires_grad for value in network.parameters()) > 0.9 * len(list(network.parameters()))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", pytest.param("convnext_atto", marks=pytest.mark.slow)])
def test_other_backbones_fit_or_say_so(backbone: str, decoder: str) -> None:
    try:
        network = build(backbone, decoder)
    except UserError as error:
        assert backbone.startswith("convnext")  # its first map is at stride 4
        assert backbone in str(error)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
        return
    network(torch.rand(2, 3, 70, 50)).sum().backward()
    assert [name for name, value in network.named_parameters() if value.requires_grad and value.grad is None] == []


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_output_stride_sets_the_maps_size(stride: int) -> None:
    network = build(backbone__output_stride=stride).eval()
    maps = network.decoder(network.backbone(torch.rand(1, 3, 96, 64)))
    assert maps.shape[-2:] == (96 // stride, 64 // stride)


def test_a_pair_that_does_not_fit_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^decoder: FPN cannot take the backbone resnet18 at output_stride 8"):
        build("resnet18", "fpn", backbone__output_stride=8)


def test_a_decoder_may_be_made_by_a_function() -> None:
    made_by = {"decoder___target_": "segmentation_models_pytorch.create_model", "decoder__arch": "unet"}
    assert isinstance(build(decoder="unet", **made_by).decoder, type(build(decoder="unet").decoder))


def test_padding_is_cut_off() -> None:
    """What lies right of an image cannot matter more than repeating its border does."""
    network = build().eval()
    image = torch.rand(1, 3, 50, 70)
    padded = torch.nn.functional.pad(image, (0, 96 - 70, 0, 64 - 50), mode="replicate")
    torch.testing.assert_close(network(image), network(padded)[..., :50, :70])


def test_normalises_with_the_backbones_own_mean_and_std() -> None:
    assert build("tf_efficientnet_lite0").mean.flatten().tolist() == [0.5, 0.5, 0.5]
    network = build("resnet18").eval()
    seen: list[torch.Tensor] = []
    network.backbone.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    network(network.mean.expand(1, 3, 64, 64).clone())
    assert seen[0].abs().max() < 1e-6


def test_same_seed_same_start_with_and_without_lstm() -> None:
    with_lstm = build().state_dict()
    without = build(lstm___target_="segmentation.models.controls.identity").state_dict()
    assert without.keys() < with_lstm.keys()
    assert all(torch.equal(with_lstm[name], value) for name, value in without.items())


def save(folder: Path, model: dict[str, Any]) -> Network:
    network = build_network(model, 5).eval()
    with torch.no_grad():
        network(torch.rand(2, 3, 64, 64))
    meta = {"classes": list("abcde"), "colours": [[0, 0, 0]] * 5, "ignore_index": 255, "size": None}
    save_model(network, folder, model=model, meta=meta)
    return network


def test_files_rebuild_the_network_exactly(tmp_path: Path) -> None:
    network = save(tmp_path, model(decoder="fpn", lstm__order=["rows", "windows"], lstm__order_args={"size": 3}))
    image = torch.rand(1, 3, 70, 90)
    for path in (tmp_path, tmp_path / "model.safetensors", tmp_path / "model.json"):
        loaded, meta = load_model(path)
        assert torch.equal(loaded(image), network(image))
        assert meta["classes"] == list("abcde")
    assert not list(tmp_path.glob("*.partial"))


def test_a_strangers_model_cannot_name_code(tmp_path: Path) -> None:
    save(tmp_path, model())
    file = tmp_path / "model.json"
    for group, key, value in (
        ("lstm", "_target_", "os.system"),
        ("lstm", "order", "antigravity.fly"),
        ("lstm", "order", ["rows", "antigravity.fly"]),
        ("decoder", "_target_", "builtins.exec"),
    ):
        description = json.loads(file.read_text())
        description["model"][group][key] = value
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        (other / "model.json").write_text(json.dumps(description))
        (other / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes())
        with pytest.raises(UserError, match="would run code"):
            load_model(other)


def test_broken_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no model.json"):
        load_model(tmp_path)
    save(tmp_path, model())
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match="does not hold the weights"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(UserError, match="not the description of a model"):
        load_model(tmp_path)


def test_the_fpn_is_that_of_its_library() -> None:
    """Ours only adds its maps up faster."""
    theirs = model("resnet18", "fpn")
    theirs["decoder"]["_target_"] = "segmentation_models_pytorch.FPN"
    torch.manual_seed(0)
    original = build_network(theirs, 5).eval()
    network = build("resnet18", "fpn").eval()
    network.load_state_dict(original.state_dict())
    image = torch.rand(2, 3, 64, 96)
    torch.testing.assert_close(network(image), original(image))
    concatenating = build("resnet18", "fpn", decoder__decoder_merge_policy="cat").eval()
    assert concatenating(image).shape == (2, 5, 64, 96)


@pytest.mark.parametrize("decoder", ["fcn", "pspnet"])
def test_depth_is_the_depth_whatever_a_decoder_calls_it(decoder: str) -> None:
    """segmentation_models_pytorch's decoders call it `encoder_depth`, and pass it on themselves."""
    settings = model("resnet18", decoder, backbone__args={"depth": 2})
    assert build_features(settings["backbone"], settings["decoder"], load_weights=False).stride == 4
