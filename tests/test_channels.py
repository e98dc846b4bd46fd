"""Images of any number of channels, and what of 16 bits is white: files, augmentation, networks, whole runs."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from segmentation import load_model
from segmentation.cost import multiply_adds
from segmentation.data.augment import Augmentation, resize_image
from segmentation.data.bands import check_pixels, turn
from segmentation.data.channels import visible
from segmentation.data.images import read_image
from segmentation.data.module import DataModule
from segmentation.errors import UserError
from segmentation.evaluate import described_data, evaluate
from segmentation.export import export
from segmentation.models.backbones import normalisation, package_state
from segmentation.models.files import save_model
from segmentation.models.network import Inputs, build_network
from segmentation.models.stages import stages
from segmentation.predict import predict
from segmentation.runfiles import examples
from segmentation.train import train
from tests.conftest import Compose
from tests.settings import model, plain

LIGHT = {"light": {"_target_": "albumentations.ColorJitter", "p": 1.0}}


def noise(channels: int, kind: Any = np.uint8, size: tuple[int, int] = (20, 31)) -> Any:
    top = np.iinfo(kind).max
    return np.random.default_rng(channels).integers(0, top, (*size, channels), dtype=kind, endpoint=True)


def write_tiff(path: Path, values: Any, *, apart: bool = False, packed: str | None = None, **tags: Any) -> Path:
    colour = "rgb" if values.shape[2] in (3, 4) else "minisblack"
    stored = np.moveaxis(values, -1, 0) if apart else values
    how: Any = {"planarconfig": "separate"} if apart else {"planarconfig": "contig"} if values.shape[2] > 1 else {}
    tifffile.imwrite(path, stored, photometric=colour, compression=packed, **how, **tags)
    return path


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 4, 5, 13])
def test_every_band_of_tiffs_and_arrays_is_read(channels: int, kind: Any, tmp_path: Path) -> None:
    values = noise(channels, kind)
    expected = values if kind == np.uint8 else values >> 8
    np.save(tmp_path / "a.npy", values)
    assert np.array_equal(read_image(tmp_path / "a.npy", channels), expected)
    ways = [(apart, packed) for apart in (False, True)[: 1 + (channels > 1)] for packed in (None, "lzw", "zlib")]
    for apart, packed in ways:  # Pillow takes some of these for grey images of the first band
        path = write_tiff(tmp_path / "a.tif", values, apart=apart, packed=packed)
        found = read_image(path, channels)
        assert found.dtype == np.uint8
        assert found.shape == values.shape
        assert np.array_equal(found, expected), (apart, packed)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pngs_are_read_with_and_without_alpha(mode: str, tmp_path: Path) -> None:
    count = len(mode)
    values = noise(count)
    Image.fromarray(values.squeeze(2) if count == 1 else values, mode).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", count), values)
    expected = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert np.array_equal(read_image(tmp_path / "a.png"), expected)  # as ever: grey becomes RGB, alpha is left out


def deep_file(path: Path, values: Any) -> Path:
    """A PNG or TIFF in colours of 16 bits, or grey."""
    order = [2, 1, 0, 3][: values.shape[2]] if values.shape[2] > 1 else [0]
    assert cv2.imwrite(str(path), values[..., order])
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_means_white_is_what_the_key_says(name: str, channels: int, tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 20 * 31 * channels).reshape(20, 31, channels).astype(np.uint16)
    path = deep_file(tmp_path / name, values)
    assert read_image(path, channels).max() == 15  # dark
    assert np.array_equal(read_image(path, channels, 4095), values >> 4)
    assert np.array_equal(read_image(path, channels, [2047] * channels), np.minimum(values >> 3, 255))
    assert (read_image(path, channels, 1000)[values >= 1000] == 255).all()
    if channels != 4:
        assert np.array_equal(read_image(path, 3, 4095), np.broadcast_to(values >> 4, (20, 31, 3)))


def test_colours_of_16_bits_are_as_pillow_reads_them_unless_white_is_said(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif"):
        for channels in (3, 4):
            path = deep_file(tmp_path / name, noise(channels, np.uint16))
            assert np.array_equal(read_image(path), np.asarray(Image.open(path).convert("RGB")))


def test_8_bits_stay_as_they_are_whatever_white_is(tmp_path: Path) -> None:
    Image.fromarray(noise(3)).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", white=4095), noise(3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_images_are_turned_as_pillow_turns_shallow_ones(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise(3)).save(tmp_path / "a.png", exif=exif)
    upright = read_image(tmp_path / "a.png")
    assert np.array_equal(turn(noise(3), orientation), upright)
    wide = noise(3).astype(np.uint16) << 8
    for channels in (3, 5):
        values = np.concatenate([wide, wide], axis=2)[..., :channels]
        tags: Any = {"extratags": [(274, "H", 1, orientation, True)]}
        path = write_tiff(tmp_path / "a.tif", values, **tags)
        assert np.array_equal(read_image(path, channels)[..., :3], upright)


@pytest.mark.parametrize(
    ("values", "channels", "said"),
    [
        (noise(3), 4, "3 channels, but data.channels=4; convert it, or train with data.channels=3"),
        (noise(3), 1, "3 channels, but data.channels=1"),
        (noise(5), 3, "5 channels, but data.channels=3"),
        (noise(1), 4, "1 channel, but data.channels=4"),
        (noise(4), 3, "4 channels, but data.channels=3"),  # an array says of no channel that it is alpha
        (np.zeros((2, 2, 3), np.float32), 3, "an image of floating-point numbers; convert it to 8 or 16"),
        (np.zeros((2, 2, 3), bool), 3, "the type bool"),
        (np.full((2, 2, 3), 70000), 3, "more than 16 bits"),
        (np.zeros((1, 2, 2, 3), np.uint8), 3, "an array [1, 2, 2, 3]; give [height, width, channels]"),
    ],
)
def test_files_that_do_not_fit_are_named(values: Any, channels: int, said: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(UserError) as caught:
        read_image(tmp_path / "a.npy", channels)
    assert str(caught.value).startswith(f"{tmp_path / 'a.npy'}: ")
    assert said in str(caught.value)


def test_torn_files_and_too_large_ones_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_tiff(tmp_path / "a.tif", noise(5)).read_bytes()
    np.save(tmp_path / "a.npy", noise(5))
    for name in ("a.tif", "a.npy"):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(UserError, match="more pixels than are allowed"):
            read_image(tmp_path / name, 5)
        monkeypatch.undo()
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[: len(whole) // 2])
        with pytest.raises(UserError, match="cannot be read as an"):
            read_image(tmp_path / name, 5)
        (tmp_path / name).unlink()
        with pytest.raises(UserError, match="no such file"):
            read_image(tmp_path / name, 5)


def test_what_needs_rgb_is_named_and_the_rest_is_done_to_all_channels(compose: Compose) -> None:
    with pytest.raises(UserError, match=r"augment\.light: ColorJitter cannot change images of 4 .*augment=bands"):
        Augmentation(LIGHT, 255, channels=4)
    with pytest.raises(UserError, match=r"augment\.any: ColorJitter"):
        Augmentation({"any": {"_target_": "albumentations.OneOf", "transforms": list(LIGHT.values())}}, 255, channels=2)
    with pytest.raises(UserError, match=r"augment\.grey: ToGray"):
        Augmentation({"grey": {"_target_": "albumentations.ToGray", "p": 0.1}}, 255, channels=5)
    settings = plain(compose("augment=bands"))["augment"]
    for channels in (1, 2, 4, 13):
        image = noise(channels)
        mask = np.zeros(image.shape[:2], np.uint8)
        augmentation = Augmentation(settings, 255, channels)
        changed = [augmentation(image, mask, seed)[0] for seed in range(8)]
        assert {one.shape for one in changed} == {image.shape}
        assert len({one.tobytes() for one in changed}) > 4
        assert resize_image(image, (7, 9)).shape == (7, 9, channels)
        assert resize_image(image, (30, 40)).shape == (30, 40, channels)
    flat = Augmentation({"light": settings["light"]}, 255, channels=6)
    alike = flat(np.tile(noise(1), 6), np.zeros((20, 31), np.uint8), 1)[0]
    assert (alike == alike[..., :1]).all()  # all channels alike
    assert np.array_equal(resize_image(np.tile(noise(1), 6), (7, 9)), np.tile(resize_image(noise(1), (7, 9)), 6))


def test_pretrained_weights_and_normalisation_are_adapted() -> None:
    state = package_state("tf_efficientnet_lite0")["conv_stem.weight"]
    for channels, expected in ((1, state.sum(1, keepdim=True)), (4, state[:, [0, 1, 2, 0]] * 3 / 4)):
        network = build_network(model("tf_efficientnet_lite0", backbone__weights="package"), 5, Inputs(channels))
        weight = network.state_dict()["backbone.model.conv_stem.weight"]
        torch.testing.assert_close(weight, expected)
        assert network.channels == channels
        assert network(torch.rand(1, channels, 40, 50)).shape == (1, 5, 40, 50)
    means = [normalisation("resnet18", count)[0].flatten().tolist() for count in (3, 1, 5)]
    assert means[1] == pytest.approx([sum(means[0]) / 3])
    assert means[2] == means[0] + means[0][:2]
    own = build_network(model("test_resnet"), 5, Inputs(2, mean=[0.1, 0.2], std=[0.3, 0.4]))
    assert own.mean.flatten().tolist() == pytest.approx([0.1, 0.2])
    assert own.std.flatten().tolist() == pytest.approx([0.3, 0.4])


def test_decoders_take_any_number_of_channels() -> None:
    for decoder in ("unet", "deeplabv3plus"):
        network = build_network(model("test_resnet", decoder), 3, Inputs(6)).eval()
        assert network(torch.rand(1, 6, 64, 64)).shape == (1, 3, 64, 64)


def test_other_channels_reach_stages_costs_and_onnx(tmp_path: Path) -> None:
    settings = model("test_resnet")
    network = build_network(settings, 2, Inputs(1))
    assert 0 in stages(network).values()
    meta = {"classes": ["a", "b"], "colours": [[0, 0, 0], [9, 9, 9]], "ignore_index": 255, "size": [64, 96]}
    save_model(network, tmp_path, model=settings, meta=meta | {"channels": 1, "white": None, "shown": None})
    _, differences = export(str(tmp_path), tmp_path / "model.onnx", size=[64, 96])
    assert max(difference.logits for difference in differences) < 1e-3
    assert load_model(tmp_path / "model.onnx")(torch.rand(1, 1, 64, 96)).shape == (1, 2, 64, 96)
    assert multiply_adds(network, (64, 96)) > 0


def test_coco_images_have_channels_and_white_too(compose: Compose, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    listing = {"images": [{"id": 1, "file_name": "a.tif", "height": 20, "width": 31}], "annotations": [],
               "categories": [{"id": 1, "name": "x"}]}  # fmt: skip
    for place in ("annotations", "train2017"):
        (tmp_path / place).mkdir()
    (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(listing))
    write_tiff(tmp_path / "train2017" / "a.tif", noise(5, np.uint16) >> 4)
    words = ("data=coco", f"data.root={tmp_path}", "data.classes=[background,x]", "data.channels=5")
    first, second = (
        DataModule(plain(compose(*words, f"data.white={white}"))["data"], {}, 0).reader("train")
        for white in (4095, 999)
    )
    assert np.array_equal(first[0].image, noise(5, np.uint16) >> 8)
    assert first.fingerprint() != second.fingerprint()


def test_pictures_show_the_channels_asked_for() -> None:
    image = noise(5)
    assert np.array_equal(visible(image), image[..., :3])
    assert np.array_equal(visible(image, [4, 1, 0]), image[..., [4, 1, 0]])
    assert np.array_equal(visible(image, [3]), np.repeat(image[..., 3:4], 3, axis=2))
    assert np.array_equal(visible(noise(2)), np.repeat(noise(2)[..., :1], 3, axis=2))
    assert visible(colours := noise(3)) is colours


def bands_tree(root: Path, *, top: int = 4000) -> Path:
    """A folder of arrays of four channels, 12 bits deep, of which the last alone tells the classes apart."""
    for split, count in (("train", 8), ("val", 3)):
        for index in range(count):
            rng = np.random.default_rng((index, count))
            labels = rng.integers(0, 2, (4, 6), np.uint8).repeat(8, 0).repeat(8, 1)
            image = rng.integers(0, top, (32, 48, 4), np.uint16)
            image[..., 3] = np.where(labels, top, top // 4)
            for kind in ("images", "masks"):
                (root / split / kind).mkdir(parents=True, exist_ok=True)
            np.save(root / split / "images" / f"{index}.npy", image)
            Image.fromarray(labels).save(root / split / "masks" / f"{index}.png")
    return root


def bands_run(tiny: Compose, root: Path, *words: str) -> Any:
    return tiny("data=folder", f"data.root={root}", "data.classes=[dark,bright]", "data.channels=4", "data.white=4095",
                "data.splits={train:null,val:null,test:null}", "augment=bands", *words)  # fmt: skip


def test_a_run_of_four_channels_from_training_to_files_for_others(
    compose: Compose, tiny: Compose, tmp_path: Path
) -> None:
    config = bands_run(tiny, bands_tree(tmp_path / "data"), "data.shown=[3]", "data.mean=[0.5,0.5,0.5,0.6]")
    config.output = str(tmp_path / "run")
    assert train(config)["pixel_accuracy"] > 0
    meta = json.loads((tmp_path / "run" / "model.json").read_text())["meta"]
    assert (meta["channels"], meta["white"], meta["shown"]) == (4, 4095, [3])
    network = load_model(tmp_path / "run")
    assert network.mean.flatten().tolist() == pytest.approx([0.5, 0.5, 0.5, 0.6])  # type: ignore[operator]
    image = torch.rand(1, 4, 32, 48)
    assert not torch.allclose(network(image), network(image * torch.tensor([1, 1, 1, 0.5]).view(1, -1, 1, 1)))
    assert "[B, 4, H, W], 4095 as stored in 16 bits being 1.0, in 0...1" in (tmp_path / "run" / "README.md").read_text()
    assert (tmp_path / "run" / "analysis.npz").is_file()
    asked = compose(f"model={tmp_path / 'run'}", "split=val", "accelerator=cpu", name="evaluate")
    again = evaluate(asked, config, tmp_path / "again")
    assert again["confusion_matrix"] == json.loads((tmp_path / "run" / "metrics.json").read_text())["confusion_matrix"]
    other = compose(f"model={tmp_path / 'run'}", "data=folder", "data.classes=[a,b]", name="evaluate")
    data = described_data(other, ["data=folder"], chosen=True).data
    assert (data.channels, data.white, list(data.shown)) == (4, 4095, [3])  # as in training here too, unless said
    assert described_data(other, ["data=folder", "data.white=9"], chosen=True).data.white != 4095
    with pytest.raises(UserError, match=r"data\.channels=3: the model's images have 4 channels"):
        evaluate(asked, bands_run(tiny, tmp_path / "data", "data.channels=3", "data.white=null"), tmp_path / "wrong")
    source = tmp_path / "data" / "val" / "images"
    masks = {}
    for name, options in (("run", {}), ("dark", {"white": 65535})):
        predict(str(tmp_path / "run"), str(source), str(tmp_path / name), "cpu", options=options)
        masks[name] = np.asarray(Image.open(tmp_path / name / "overlays" / "0.png")).mean()
    assert masks["run"] > masks["dark"] + 10  # what is white is as in training, unless said
    export(str(tmp_path / "run"), tmp_path / "model.pt2", form="torch", size=[32, 48])
    predict(str(tmp_path / "model.pt2"), str(source), str(tmp_path / "out"), "cpu", trust=True)
    found, exported = (np.asarray(Image.open(tmp_path / name / "0.png")) for name in ("run", "out"))
    assert (found == exported).mean() > 0.99


def test_galleries_and_tensorboard_show_the_channels_asked_for(tiny: Compose, tmp_path: Path) -> None:
    root, prediction = bands_tree(tmp_path / "data"), np.zeros((32, 48), np.uint8)
    for shown, expected in (("null", [0, 1, 2]), ("[3,3,0]", [3, 3, 0]), ("[2]", [2, 2, 2])):
        data = DataModule(plain(bands_run(tiny, root, f"data.shown={shown}"))["data"], {}, 0)
        ((picture, _, _),) = examples(data, "val", {1: prediction})
        assert np.array_equal(picture, data.reader("val")[1].image[..., expected])


def test_caches_tell_channels_and_white_apart(tiny: Compose, tmp_path: Path) -> None:
    root, seen = bands_tree(tmp_path / "data"), set()
    for words in ([], ["data.white=2000"], ["data.white=null"]):
        settings = plain(bands_run(tiny, root, f"data.cache={tmp_path / 'cache'}", *words))
        data = DataModule(settings["data"], {}, 0)
        direct = data.reader("val")[1].image
        data.prepare("val")
        assert np.array_equal(data.reader("val")[1].image, direct)
        assert direct.shape == (32, 48, 4)
        seen.add(direct.tobytes())
    assert len(seen) == len(list((tmp_path / "cache").glob("*.samples"))) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.channels=0"], "data.channels=0: give 1 to"),
        (["data.white=0"], "data.white=0: give the stored value"),
        (["data.white=[1,2]"], r"data.white=\[1, 2\]: .* or 4 of them"),
        (["data.white=4095.5"], "data.white=4095.5"),
        (["data.mean=[123.7,116.3,103.5,100]"], r"data.mean=.*in 0\.\.\.1"),
        (["data.mean=[0.5]"], r"data.mean=\[0.5\]: give 4 numbers"),
        (["data.std=[1,1,1,0]"], "data.std="),
        (["data.shown=[0,4,1]"], r"data.shown=\[0, 4, 1\]: give three channels of 0 to 3"),
        (["augment=default"], "augment.light: ColorJitter"),
        (["data.channels=5", "data.white=null"], "4 channels, but data.channels=5"),
    ],
)
def test_mistakes_are_named(words: list[str], said: str, tiny: Compose, tmp_path: Path) -> None:
    settings = plain(bands_run(tiny, bands_tree(tmp_path / "data"), *words))
    with pytest.raises(UserError, match=said):
        DataModule(settings["data"], settings["augment"], 0).prepare("train")


def test_scenes_are_rgb(tiny: Compose) -> None:
    for words, said in ((["data.channels=4"], "channels=4"), (["data.white=4095"], "white=4095")):
        with pytest.raises(UserError, match=f"data.{said}: SyntheticReader gives RGB"):
            DataModule(plain(tiny(*words))["data"], {}, 0).prepare("train")


def test_bands_count_towards_what_an_image_may_hold(tmp_path: Path) -> None:
    """A small TIFF may say that it has a thousand bands."""
    check_pixels((10_000, 10_000, 4), tmp_path)
    with pytest.raises(UserError, match="more pixels than are allowed"):
        check_pixels((10_000, 10_000, 1000), tmp_path)
