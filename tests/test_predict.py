"""Predictions of files: every kind of input, every option, and nothing half-written."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from segmentation.data.images import read_image
from segmentation.errors import UserError
from segmentation.inference import outputs
from segmentation.inference.outputs import VideoFile, entropy
from segmentation.inference.sources import Video
from segmentation.models.files import save_model
from segmentation.models.network import build_network
from segmentation.predict import predict
from tests import settings

META = {"classes": ["a", "b", "c"], "colours": [[9, 9, 9], [200, 0, 0], [0, 0, 200]], "ignore_index": 255}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights, spread out so that its predictions are not all one class."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("model")
    description = settings.model("test_resnet", lstm__order="rows")
    network = build_network(description, 3, load_weights=False)
    assert isinstance(network.classifier, torch.nn.Conv2d)
    assert network.classifier.bias is not None
    torch.nn.init.normal_(network.classifier.weight, std=3)
    with torch.no_grad():  # no class before the others
        logits = network.eval()(torch.from_numpy(scene()).permute(2, 0, 1)[None] / 255)
        network.classifier.bias -= logits.mean((0, 2, 3))
    save_model(network, folder, model=description, meta={**META, "size": [32, 48]})
    return folder


def scene(height: int = 70, width: int = 90) -> Any:
    rng = np.random.default_rng(height)
    return cv2.resize(rng.integers(0, 256, (9, 12, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def store(folder: Path, **images: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder


def run(model: Path, source: Path | str, output: Path, **options: Any) -> dict[str, Any]:
    """The masks by name."""
    written = predict(str(model), str(source), str(output), "cpu", options=options)
    return {path.relative_to(output).as_posix(): np.asarray(Image.open(path)) for path in written}


OPTIONS: dict[str, dict[str, Any]] = {
    "windows": {"mode": "window", "window": {"size": None, "overlap": 0.25}},
    "larger windows": {"mode": "window", "window": {"size": [48, 64], "overlap": 0.25}},
    "more overlap": {"mode": "window", "window": {"size": None, "overlap": 0.6}},
    "flip": {"tta": {"flip": True, "scales": [1.0]}},
    "scales": {"tta": {"flip": False, "scales": [0.5, 1.0]}},
    "both": {"mode": "window", "tta": {"flip": True, "scales": [0.5]}},
}


def test_every_option_changes_what_is_predicted(model: Path, tmp_path: Path) -> None:
    source = store(tmp_path / "in", a=scene())
    found = {"as it is": run(model, source, tmp_path / "plain")["a.png"]}
    for name, options in OPTIONS.items():
        found[name] = run(model, source, tmp_path / name, **options)["a.png"]
        assert found[name].shape == (70, 90)
    assert len({mask.tobytes() for mask in found.values()}) == len(found)


@pytest.mark.parametrize("options", [{}, *OPTIONS.values()], ids=["as it is", *OPTIONS])
def test_batches_change_nothing(options: dict[str, Any], model: Path, tmp_path: Path) -> None:
    source = store(tmp_path / "in", a=scene(), b=scene()[::-1], c=scene(40, 50), d=scene())
    one, four = (run(model, source, tmp_path / str(size), **options, batch_size=size) for size in (1, 4))
    assert list(one) == list(four) == ["a.png", "b.png", "c.png", "d.png"]
    for name, mask in one.items():
        assert (mask != four[name]).mean() < 0.001  # float sums differ in their last bits


def test_an_image_of_a_windows_size_is_predicted_as_without_windows(model: Path, tmp_path: Path) -> None:
    source = store(tmp_path / "in", a=scene(32, 48))
    plain, windows = (run(model, source, tmp_path / mode, mode=mode)["a.png"] for mode in ("resize", "window"))
    assert (plain == windows).all()


@pytest.mark.parametrize("mode", ["resize", "window"])
def test_probabilities_and_uncertainty_are_those_of_the_mask(mode: str, model: Path, tmp_path: Path) -> None:
    source = store(tmp_path / "in" / "night", a=scene()).parent
    masks = run(model, source, tmp_path / "out", mode=mode, probabilities=True, uncertainty=True)
    found = np.load(tmp_path / "out" / "probabilities" / "night" / "a.npy")
    assert found.dtype == np.float16
    assert found.shape == (3, 70, 90)
    assert np.abs(found.astype(np.float32).sum(0) - 1).max() < 0.01
    assert (found.argmax(0) == masks["night/a.png"]).mean() > 0.99  # ties of half precision
    drawn = np.asarray(Image.open(tmp_path / "out" / "uncertainty" / "night" / "a.png"))
    expected = 255 * entropy(torch.from_numpy(found).float()).numpy()
    assert np.abs(drawn - expected).max() < 3
    assert not list((tmp_path / "out").rglob("*.partial"))
    run(model, source, tmp_path / "less", mode=mode)
    assert {path.name for path in (tmp_path / "less").iterdir()} == {"night", "overlays"}


def test_frames_come_in_the_order_of_their_numbers(model: Path, tmp_path: Path) -> None:
    source = store(tmp_path / "in", frame_1=scene(), frame_10=scene(), frame_2=scene())
    assert list(run(model, source, tmp_path / "out")) == ["frame_1.png", "frame_2.png", "frame_10.png"]


def test_a_folder_called_as_an_output_is_refused(model: Path, tmp_path: Path) -> None:
    store(tmp_path / "in" / "overlays", a=scene())
    with pytest.raises(UserError, match="a folder of this name is written to"):
        run(model, tmp_path / "in", tmp_path / "out")


def test_entropy_is_0_where_sure_and_1_where_all_are_alike() -> None:
    assert entropy(torch.tensor([[[1.0]], [[0.0]], [[0.0]]])).item() == 0
    assert entropy(torch.full((4, 1, 1), 0.25)).item() == pytest.approx(1)


def test_deep_and_grey_images_are_read_at_their_full_range(tmp_path: Path) -> None:
    deep = np.array([[0, 255, 256, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    for name in ("deep.png", "deep.tif"):
        assert read_image(tmp_path / name)[..., 0].tolist() == [[0, 0, 1, 255]]
    Image.fromarray(np.array([[7, 9]], np.uint8)).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png").tolist() == [[[7, 7, 7], [9, 9, 9]]]
    Image.fromarray(np.array([[0.5]], np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match=r"float\.tif: an image of floating-point numbers; convert it to 8 or 16"):
        read_image(tmp_path / "float.tif")
    Image.fromarray(np.array([[70000]], np.int32)).save(tmp_path / "long.tif")
    with pytest.raises(UserError, match=r"long\.tif: more than 16 bits a pixel"):
        read_image(tmp_path / "long.tif")


def test_an_image_turned_by_its_exif_tag_is_predicted_upright(model: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "in").mkdir()
    Image.fromarray(scene()).save(tmp_path / "in" / "a.jpg", exif=exif)
    assert run(model, tmp_path / "in", tmp_path / "out")["a.png"].shape == (90, 70)


def test_a_glob_takes_what_fits_it(model: Path, tmp_path: Path) -> None:
    store(tmp_path / "in" / "x", a=scene(), b=scene())
    store(tmp_path / "in" / "y", a=scene())
    assert list(run(model, tmp_path / "in" / "*" / "a.png", tmp_path / "one")) == ["x/a.png", "y/a.png"]
    assert len(run(model, f"{tmp_path}/in/**/*.png", tmp_path / "all")) == 3


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("nowhere", {}, "no such file or folder"),
        ("*.jpg", {}, "no image in it"),
        ("a.png", {"mode": "windows"}, "mode=windows: no such choice; did you mean 'window'"),
        ("a.png", {"window": {"size": [8, 8], "overlap": 0.25}}, "window: without mode=window"),
        ("a.png", {"fps": 0}, "fps=0: give more than 0"),
        ("a.png", {"batch_size": 0}, "batch_size=0: give at least 1"),
        (
            "a.png",
            {"max_pixels": 100},
            "a.png: more pixels than are allowed; make it smaller (predict takes larger images by max_pixels",
        ),
        ("text.mp4", {}, "cannot be read as a video"),
        ("film.mp4", {"uncertainty": True}, "uncertainty=true: not of a video"),
    ],
)
def test_mistakes_are_named(
    source: str, options: dict[str, Any], said: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    store(tmp_path, a=scene())
    (tmp_path / "text.mp4").write_text("no video")
    film(tmp_path / "film.mp4", 2)
    with pytest.raises(UserError) as caught:
        run(model, tmp_path / source, tmp_path / "out", **options)
    assert said in str(caught.value)


def film(path: Path, frames: int) -> Path:
    with VideoFile(path, 10) as video:
        for number in range(frames):
            video.add(np.full((48, 64, 3), (40 * number, 90, 160), np.uint8))
    return path


def test_a_video_becomes_a_video_of_overlays(model: Path, tmp_path: Path) -> None:
    source = film(tmp_path / "film.mp4", 5)
    (written,) = predict(str(model), str(source), str(tmp_path / "out"), "cpu")
    assert written == tmp_path / "out" / "film.mp4"
    before, after = Video(source), Video(written)
    assert (after.fps, after.count) == (10, 5)
    frames = list(zip(before, after, strict=True))
    assert len(frames) == 5
    assert all(one.shape == other.shape == (48, 64, 3) for one, other in frames)
    assert all(np.abs(one.astype(int) - other).mean() > 10 for one, other in frames)  # colours lie over it
    (slow,) = predict(str(model), str(source), str(tmp_path / "slow"), "cpu", options={"fps": 5})
    assert Video(slow).fps == 5
    with pytest.raises(UserError, match="the overlays would replace the video"):
        predict(str(model), str(source), str(tmp_path), "cpu")


def test_a_folder_of_frames_becomes_a_video_beside_its_masks(model: Path, tmp_path: Path) -> None:
    source = store(tmp_path / "in", a=scene(), b=scene(), c=scene(60, 80))
    masks = run(model, source, tmp_path / "out", fps=4)
    assert len(masks) == 3
    video = Video(tmp_path / "out" / "overlays.mp4")
    assert (video.fps, video.count) == (4, 3)
    assert {frame.shape for frame in video} == {(70, 90, 3)}


def test_a_video_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with VideoFile(tmp_path / "film.mp4", 5) as video:
            video.add(np.zeros((16, 16, 3), np.uint8))
            assert len(list(tmp_path.iterdir())) == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_prediction_that_fails_leaves_no_mask(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(outputs, "save_map", fail)
    source = store(tmp_path / "in", a=scene())
    with pytest.raises(OSError, match="disk full"):
        run(model, source, tmp_path / "out", uncertainty=True, probabilities=True)
    assert not list((tmp_path / "out").glob("*.png"))
    assert not list((tmp_path / "out").rglob("*.npy*"))
