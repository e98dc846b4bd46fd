"""A whole run in miniature, and what must hold of it: files, resuming, evaluating and predicting from what it saved."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from segmentation.data.module import DataModule
from segmentation.errors import UserError
from segmentation.evaluate import described_data, evaluate
from segmentation.models.files import load_model
from segmentation.predict import predict
from segmentation.train import in_words, train
from tests.conftest import Compose


@pytest.fixture
def run(tiny: Compose, tmp_path: Path) -> Path:
    """A finished run's folder, its configuration saved as Hydra does."""
    config = tiny("lstm=zigzag", "trainer.max_epochs=2")
    folder = tmp_path / "run"
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    train(config)
    return folder


def metrics_of(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def test_run_leaves_what_design_promises(run: Path) -> None:
    metrics = metrics_of(run)
    assert metrics["split"] == "test"
    assert metrics["num_images"] == 3
    assert metrics["epochs"] == 2
    assert metrics["train_seconds"] > 0
    confusion = np.array(metrics["confusion_matrix"])
    assert metrics["pixel_accuracy"] == pytest.approx(np.trace(confusion) / confusion.sum())
    with np.load(run / "confusion.npz") as arrays:
        assert arrays["confusion"].shape == (3, *confusion.shape)
        assert (arrays["confusion"].sum(0) == confusion).all()
        names = arrays["names"].tolist()
    for name in names:
        assert Image.open(run / "predictions" / f"{name}.png").mode == "P"
    for path in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "model.safetensors", "model.json"):
        assert (run / path).stat().st_size > 0
    assert {path.name for path in (run / "plots").iterdir()} == {
        "curves.png", "segmented.png", "confusion_matrix.png", "class_iou.png"
    }  # fmt: skip
    history = json.loads((run / "history.json").read_text())
    assert [row["epoch"] for row in history] == [0, 1]
    assert {"train/loss", "val/loss", "train/pixel_accuracy", "val/pixel_accuracy", "val/mean_iou"} <= set(history[0])
    assert {"lr/head", "lr/backbone"} <= set(history[0])


def test_history_has_scores_of_the_epochs_that_were_validated_alone(tiny: Compose, tmp_path: Path) -> None:
    config = tiny("trainer.max_epochs=3", "+trainer.args.check_val_every_n_epoch=2", "logger=none", "test=false")
    train(config)
    rows = json.loads((Path(config.output) / "history.json").read_text())
    assert ["val/mean_iou" in row for row in rows] == [False, True, False]
    assert all("train/loss" in row for row in rows)


def test_tensorboard_has_scalars_images_and_final_scores(run: Path) -> None:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    tags = events.Tags()
    assert {"val/images", "val/confusion_matrix"} <= set(tags["images"])
    assert len(events.Images("val/images")) == 2  # one an epoch, for the slider
    assert {"train/loss_epoch", "val/loss", "val/mean_iou", "test/mean_iou"} <= set(tags["scalars"])
    assert any(tag.startswith("lr/") for tag in tags["scalars"])
    final = events.Scalars("final/pixel_accuracy")[-1].value
    assert final == pytest.approx(metrics_of(run)["pixel_accuracy"])


def test_tensorboard_shows_first_what_matters_and_nothing_that_is_not_there(run: Path) -> None:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    scalars = events.Tags()["scalars"]
    (event,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: chart.multiline.tag for page in layout.category for chart in page.chart}
    assert next(iter(charts)) == "mean IoU"
    for tags in charts.values():
        assert all(any(re.match(tag, scalar) for scalar in scalars) for tag in tags), tags
    assert [scalar for scalar in scalars if re.match(charts["loss"][0], scalar)] == ["train/loss_epoch"]


def test_a_run_of_an_earlier_release_is_evaluated(run: Path, compose: Compose, tmp_path: Path) -> None:
    """Its configuration lacks the keys that were added since."""
    older = tmp_path / "older"
    shutil.copytree(run, older)
    saved = OmegaConf.load(older / ".hydra" / "config.yaml")
    for key in ("cache", "cache_gib", "check"):
        saved.data.pop(key)
    OmegaConf.save(saved, older / ".hydra" / "config.yaml")
    config = compose(f"model={older}", "accelerator=cpu", name="evaluate")
    scores = evaluate(config, described_data(config, [], chosen=False), tmp_path / "evaluation")
    assert scores["pixel_accuracy"] > 0


def test_evaluate_repeats_the_test_to_the_last_pixel(run: Path, compose: Compose, tmp_path: Path) -> None:
    config = compose(f"model={run}", "accelerator=cpu", name="evaluate")
    evaluate(config, described_data(config, [], chosen=False), tmp_path / "evaluation")
    ours, its = metrics_of(tmp_path / "evaluation"), metrics_of(run)
    assert ours == {key: its[key] for key in ours}
    for trainer in ({"devices": 7, "strategy": "ddp"}, {"fast_dev_run": True}, {"args": {"limit_test_batches": 1}}):
        other = described_data(config, [], chosen=False)
        other.trainer.update(trainer)
        evaluate(config, other, tmp_path / "again")
        assert metrics_of(tmp_path / "again") == ours
    more = described_data(config, ["data.splits={train:8,val:3,test:5}"], chosen=False)
    assert more.data.splits.test == 5
    evaluate(config, more, tmp_path / "more")
    assert metrics_of(tmp_path / "more")["num_images"] == 5


@pytest.mark.parametrize(
    ("overrides", "differs"),
    [
        (["mode=window", "window.size=[24,32]"], True),
        (["mode=window"], False),  # the scenes are of the training's size: each is one window
        (["tta.flip=true"], True),
        (["tta.scales=[1.5]"], True),
        (["mode=window", "batch_size=2"], False),
    ],
)
def test_evaluate_sees_images_as_asked(
    overrides: list[str], differs: bool, run: Path, compose: Compose, tmp_path: Path
) -> None:
    config = compose(f"model={run}", "accelerator=cpu", *overrides, name="evaluate")
    evaluate(config, described_data(config, overrides, chosen=False), tmp_path)
    found, plain = (metrics_of(folder)["confusion_matrix"] for folder in (tmp_path, run))
    assert (found != plain) == differs


def test_a_batch_of_windows_needs_windows(run: Path, compose: Compose, tmp_path: Path) -> None:
    config = compose(f"model={run}", "accelerator=cpu", "batch_size=2", name="evaluate")
    with pytest.raises(UserError, match=r"batch_size: is of windows; .* data\.eval_batch_size"):
        evaluate(config, described_data(config, [], chosen=False), tmp_path)


def test_windows_are_cut_at_the_images_own_scale(run: Path, compose: Compose) -> None:
    for overrides, size in ((["mode=window"], None), (["mode=window", "data.size=[64,96]"], [64, 96])):
        config = compose(f"model={run}", *overrides, name="evaluate")
        assert described_data(config, overrides, chosen=False).data.size == size


def test_what_a_run_saved_fetches_nothing(run: Path, compose: Compose, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    saved = OmegaConf.load(copy / ".hydra" / "config.yaml")
    saved.data.download = True
    OmegaConf.save(saved, copy / ".hydra" / "config.yaml")
    config = compose(f"model={copy}", name="evaluate")
    assert described_data(config, [], chosen=False).data.download is False
    assert described_data(config, ["data.download=true"], chosen=False).data.download is True


def test_evaluating_on_another_data_set_keeps_the_size_that_the_network_knows(run: Path, compose: Compose) -> None:
    for overrides, size in ((["data=synthetic"], [32, 48]), (["data=synthetic", "data.size=[64,96]"], [64, 96])):
        config = compose(f"model={run}", *overrides, name="evaluate")
        assert described_data(config, overrides, chosen=True).data.size == size


def test_predict_writes_masks_and_overlays_in_the_images_size(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "images"
    (source / "night").mkdir(parents=True)
    Image.new("RGB", (50, 37), "gray").save(source / "a.jpg")
    Image.new("L", (21, 40), 30).save(source / "night" / "b.png")
    predict(str(run), str(source), str(tmp_path / "out"), "cpu")
    for name, size in (("a.png", (50, 37)), ("night/b.png", (21, 40))):
        mask = Image.open(tmp_path / "out" / name)
        assert (mask.mode, mask.size) == ("P", size)
        assert Image.open(tmp_path / "out" / "overlays" / name).size == size
    assert predict(str(run / "model.safetensors"), str(source / "a.jpg"), str(tmp_path / "one"), "cpu") == [
        tmp_path / "one" / "a.png"
    ]


def test_predict_spares_the_images_and_its_own_earlier_masks(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "images"
    source.mkdir()
    Image.new("RGB", (50, 37), "gray").save(source / "a.png")
    for output in (source, tmp_path / "images" / ".." / "images"):
        with pytest.raises(UserError, match=r"the mask a.png would replace"):
            predict(str(run), str(source), str(output), "cpu")
    for _ in range(2):
        assert len(predict(str(run), str(source), str(source / "masks"), "cpu")) == 1


def test_predict_and_test_see_the_same(run: Path, tmp_path: Path) -> None:
    """The images of the test split, saved and predicted from files, give the test's own predictions."""
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    settings: Any = OmegaConf.to_container(config.data, resolve=True)
    reader = DataModule(settings, {}, 0).reader("test")
    for name, sample in zip(reader.names, [reader[index] for index in range(len(reader))], strict=True):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.image).save(path)
    for path in predict(str(run), str(tmp_path / "images"), str(tmp_path / "out"), "cpu"):
        saved = run / "predictions" / path.relative_to(tmp_path / "out")
        assert (np.asarray(Image.open(path)) == np.asarray(Image.open(saved))).all()


def test_interrupted_run_goes_on_to_the_same_weights(tiny: Compose, tmp_path: Path) -> None:
    straight = tiny("trainer.max_epochs=3", f"output={tmp_path / 'straight'}")
    train(straight)
    # Stopped by the schedule of its own length: the steps of the learning rate must be those of three epochs.
    stopped = tiny("trainer.max_epochs=3", "+trainer.args.limit_test_batches=1", f"output={tmp_path / 'stopped'}")
    stop_after(stopped, epochs=1)
    resumed = tiny("trainer.max_epochs=3", f"output={tmp_path / 'stopped'}", "ckpt=auto")
    train(resumed)
    first, _ = load_model(tmp_path / "straight")
    second, _ = load_model(tmp_path / "stopped")
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=0, msg=name)
    assert len(json.loads((tmp_path / "stopped" / "history.json").read_text())) == 3


def test_auto_goes_on_in_the_folder_of_the_unfinished_run(tiny: Compose, tmp_path: Path) -> None:
    stopped, new = tmp_path / "day" / "stopped", tmp_path / "day" / "new"
    for folder in (stopped, new):
        config = tiny("trainer.max_epochs=2", f"output={folder}")
        (folder / ".hydra").mkdir(parents=True)
        OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    stop_after(tiny("trainer.max_epochs=2", f"output={stopped}"), epochs=1)
    train(tiny("trainer.max_epochs=2", f"output={new}", "ckpt=auto"))
    assert len(json.loads((stopped / "history.json").read_text())) == 2
    assert metrics_of(stopped)["epochs"] == 2
    assert not (new / "model.safetensors").exists()


def test_a_training_cannot_go_on_with_another_length(run: Path, tiny: Compose, tmp_path: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    with pytest.raises(UserError, match="was planned for 4 steps, this one for 6"):
        train(tiny("lstm=zigzag", "trainer.max_epochs=3", f"ckpt={last}", f"output={tmp_path / 'longer'}"))


def test_a_test_cut_short_says_how_many_images_it_saw(tiny: Compose) -> None:
    config = tiny("+trainer.args.limit_test_batches=2")
    train(config)
    assert metrics_of(Path(config.output))["num_images"] == 2


def stop_after(config: Any, epochs: int) -> None:
    class StoppedError(Exception):
        pass

    import pytorch_lightning as pl

    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == epochs:
                raise StoppedError

    Stop.__module__, Stop.__qualname__ = __name__, "Stop"
    globals()["Stop"] = Stop
    OmegaConf.update(config, "callbacks.stop", {"_target_": f"{__name__}.Stop"}, force_add=True)
    with pytest.raises(StoppedError):
        train(config)


def test_same_seed_same_run_other_seed_another(tiny: Compose, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tiny(f"seed={seed}", f"output={tmp_path / name}"))
    losses = [json.loads((tmp_path / name / "history.json").read_text())[0]["train/loss"] for name in "abc"]
    assert losses[0] == losses[1] != losses[2]


def test_one_batch_is_learnt_by_heart(tiny: Compose) -> None:
    config = tiny(
        "data.splits={train:2,val:2,test:2}", "data.batch_size=2", "augment=none", "trainer.max_epochs=80",
        "decoder=unet", "+trainer.args.limit_val_batches=0", "monitor=train/loss", "test=false", "optimizer.lr=0.003",
        "scheduler=constant", "logger=none",
    )  # fmt: skip
    config.callbacks = {}
    train(config)
    rows = json.loads((Path(config.output) / "history.json").read_text())
    assert rows[-1]["train/pixel_accuracy"] > 0.95 > rows[0]["train/pixel_accuracy"]


def test_a_run_without_logger_leaves_its_files_all_the_same(tiny: Compose) -> None:
    config = tiny("logger=none")
    train(config)
    assert (Path(config.output) / "history.json").exists()
    assert not (Path(config.output) / "tensorboard").exists()


def test_switches(tiny: Compose, tmp_path: Path) -> None:
    train(tiny("test=false"))
    run = tmp_path / "run"
    assert (run / "model.safetensors").exists()
    assert not (run / "metrics.json").exists()
    scores = train(tiny("train=false", f"ckpt={run / 'checkpoints' / 'best.ckpt'}", f"output={tmp_path / 'tested'}"))
    assert not (tmp_path / "tested" / "history.json").exists()
    assert metrics_of(tmp_path / "tested")["pixel_accuracy"] == scores["pixel_accuracy"]
    first, second = load_model(run)[0], load_model(tmp_path / "tested")[0]
    assert all((second.state_dict()[name] == value).all() for name, value in first.state_dict().items())


@pytest.mark.parametrize(
    "override",
    ["trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.001", "trainer.precision=bf16", "optimizer=sgd",
     "loss=combined", "augment=none", "scheduler=constant", "optimizer.backbone_lr_factor=0"],
)  # fmt: skip
def test_every_training_option_changes_the_weights(override: str, tiny: Compose, tmp_path: Path) -> None:
    common = ("trainer.max_epochs=1", "data.splits={train:12,val:1,test:1}", "test=false", "logger=none")
    for name, overrides in (("plain", []), ("changed", [override])):
        config = tiny(*common, *overrides, f"output={tmp_path / name}")
        config.callbacks = {}
        train(config)
    first, second = (load_model(tmp_path / name)[0].state_dict() for name in ("plain", "changed"))
    assert first.keys() != second.keys() or any((second[name] != value).any() for name, value in first.items())


def test_scores_are_said_where_there_are_some() -> None:
    scores = {"pixel_accuracy": 0.91236, "mean_iou": 0.5}
    assert in_words("a\x1bb", scores) == "a\\x1bb: pixel accuracy 91.24%, mean IoU 50.00%"
    for none in ({}, {"pixel_accuracy": None, "mean_iou": None}, {"optimizer.lr": 0.1}):
        assert in_words("a", none) == ""
