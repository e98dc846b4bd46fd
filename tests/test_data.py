"""Reading labelled images, drawn scenes, augmentation, and what a batch must hold whoever asks for it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from segmentation.config import CONF, DataConfig
from segmentation.data.augment import Augmentation, build_transform, resize_image, resize_mask
from segmentation.data.module import DataModule, count_workers
from segmentation.data.reader import FileReader
from segmentation.data.samplers import EvaluationSampler, TrainBatches, TrainSampler
from segmentation.data.scenes import CLASSES, LABEL
from segmentation.data.synthetic import SyntheticReader
from segmentation.errors import UserError

VOID = 255
FLIP = {"flip": {"_target_": "albumentations.HorizontalFlip", "p": 0.5}}
ZOOM = {"zoom": {"_target_": "albumentations.Affine", "scale": [0.5, 0.6], "p": 1.0}}


def write(path: Path, array: Any, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8), mode).save(path)


def tree(root: Path, *, count: int = 4, size: tuple[int, int] = (20, 30)) -> Path:
    """A data set in CamVid's layout."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        lines = []
        for index in range(count):
            name = f"{index % 2:04d}TP_{index:06d}.png"
            write(root / split / name, rng.integers(0, 255, (*size, 3)))
            write(root / f"{split}annot" / name, rng.integers(0, 12, size))
            lines.append(f"{split}/{name} {split}annot/{name}")
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def module(name: str, augment: Any = None, seed: int = 0, **changes: Any) -> DataModule:
    config: Any = OmegaConf.merge(OmegaConf.structured(DataConfig), OmegaConf.load(CONF / "data" / f"{name}.yaml"))
    OmegaConf.set_struct(config, False)
    config = OmegaConf.merge(config, {"num_workers": 0}, changes)
    plain: Any = OmegaConf.to_container(OmegaConf.create({"data": config}).data, resolve=True)
    return DataModule(plain, augment or {}, seed)


def test_camvids_layout(tmp_path: Path) -> None:
    data = module("camvid", root=str(tree(tmp_path)), batch_size=2)
    data.prepare("train", "val")
    assert (data.test_split, list(data.splits.sources)) == ("val", ["train", "val"])
    assert data.groups("val") == ["0000TP", "0001TP", "0000TP", "0001TP"]
    sample = data.reader("train")[1]
    assert sample.name == "0001TP_000001"
    assert np.array_equal(sample.mask, np.asarray(Image.open(tmp_path / "trainannot" / "0001TP_000001.png")))
    batch = next(iter(data.train_dataloader()))
    assert (batch["image"].dtype, tuple(batch["image"].shape)) == (torch.uint8, (2, 3, 20, 30))
    assert (batch["mask"].dtype, tuple(batch["mask"].shape)) == (torch.uint8, (2, 20, 30))
    contract = data.contract("val")
    assert contract["num_images"] == 4
    assert contract["files_hash"] == module("camvid", root=str(tree(tmp_path / "copy"))).contract("val")["files_hash"]
    assert contract["files_hash"] != data.contract("train")["files_hash"]


def test_a_test_list_makes_a_test_split(tmp_path: Path) -> None:
    (tree(tmp_path) / "test.txt").write_text((tmp_path / "val.txt").read_text())
    assert module("camvid", root=str(tmp_path)).test_split == "test"


def test_vocs_layout_with_palette_masks(tmp_path: Path) -> None:
    mask = np.array([[0, 20], [255, 1]], np.uint8)
    picture = Image.fromarray(mask)
    picture.putpalette(list(range(256)) * 3)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    picture.save(tmp_path / "SegmentationClass" / "2007_1.png")
    write(tmp_path / "JPEGImages" / "2007_1.jpg", np.zeros((2, 2, 3)))
    for split in ("train", "val"):
        (tmp_path / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("2007_1\r\n")
    assert np.array_equal(module("voc", root=str(tmp_path)).reader("val")[0].mask, mask)


def test_a_folder_without_lists(tmp_path: Path) -> None:
    for split, names in (("train", ("a.b", "c")), ("val", ("d",))):
        for name in names:
            write(tmp_path / split / "images" / f"{name}.jpg", np.zeros((8, 9, 3)))
            write(tmp_path / split / "masks" / f"{name}.png", np.ones((8, 9)))
    data = module("folder", root=str(tmp_path), classes=["no", "yes"], colours=[[0, 0, 0], [1, 1, 1]])
    assert list(data.splits.sources) == ["train", "val"]
    assert data.reader("train").names == ["a.b", "c"]


def file_reader(root: Path, **changes: Any) -> FileReader:
    keywords: dict[str, Any] = {
        "root": str(root), "split": "train", "listing": "train.txt", "image": "{split}/{name}.png",
        "mask": "{split}annot/{name}.png", "num_classes": 11, "ignore_index": 11,
    }  # fmt: skip
    return FileReader(**keywords | changes)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "train.txt").write_text("a/x.png a/m.png\nb/x.png b/m.png\n")
    with pytest.raises(UserError, match="both are called 'x'"):
        file_reader(root)


def test_label_map_and_ignore_index_change_the_masks(tmp_path: Path) -> None:
    root = tree(tmp_path)
    plain = file_reader(root)[0].mask
    mapped = file_reader(root, num_classes=2, ignore_index=7, label_map={label: label % 2 for label in range(12)})[
        0
    ].mask
    assert np.array_equal(mapped, plain % 2)


def test_a_list_of_names_fills_the_patterns(tmp_path: Path) -> None:
    root = tree(tmp_path)
    pairs = file_reader(root)
    (root / "train.txt").write_text("\n".join(pairs.names))
    assert file_reader(root).paths == pairs.paths


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "trainannot/0001TP_000003.png").unlink(), "0001TP_000003.png: no such file"),
        (
            lambda root: write(root / "trainannot/0001TP_000003.png", np.zeros((20, 29))),
            "29x20, but its image is 30x20",
        ),
        (lambda root: write(root / "trainannot/0001TP_000003.png", np.full((20, 30), 12)), "label 12 is no class"),
        (lambda root: write(root / "trainannot/0001TP_000003.png", np.zeros((20, 30, 3))), "a mask in colours"),
        (lambda root: (root / "train/0001TP_000003.png").write_bytes(b"\x89PNG torn"), "cannot be read as an image"),
        (
            lambda root: Image.fromarray(np.full((20, 30), 70000, np.int32)).save(
                root / "train/0001TP_000003.png", format="TIFF"
            ),
            "more than 16 bits",
        ),
        (lambda root: (root / "train.txt").unlink(), "train.txt"),
        (lambda root: (root / "train.txt").write_text(""), "no sample of the split 'train'"),
        (lambda root: (root / "train.txt").write_text("a b c"), "line 1: neither a name nor"),
        (lambda root: (root / "train.txt").write_text("train/a\ttrainannot/a\tb"), "line 1: neither a name nor"),
        (lambda root: (root / "train.txt").write_text("../a.png ../b.png"), "leads out of"),
        (lambda root: (root / "train.txt").write_text("/a.png /b.png"), "leads out of"),
    ],
)
def test_bad_files_are_named_in_one_line(spoil: Any, said: str, tmp_path: Path) -> None:
    spoil(tree(tmp_path))
    with pytest.raises(UserError) as caught:
        file_reader(tmp_path).check()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_image_and_mask_are_turned_upright_alike(orientation: int, tmp_path: Path) -> None:
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.stack([labels] * 3, 2)).save(tmp_path / "image.png", exif=exif)
    Image.fromarray(labels).save(tmp_path / "mask.png", exif=exif)
    reader = FileReader(
        root=str(tmp_path),
        split="x",
        listing=None,
        image="{name}.png",
        mask="mask.png",
        num_classes=6,
        ignore_index=255,
    )
    sample = reader[reader.names.index("image")]
    assert np.array_equal(sample.image[..., 0], sample.mask)
    assert np.array_equal(sample.mask, {1: labels, 3: np.rot90(labels, 2), 6: np.rot90(labels, -1)}[orientation])


def test_names_and_paths_may_have_spaces(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        write(tmp_path / folder / "a wet street.png", np.zeros((4, 5, 3) if folder == "images" else (4, 5)))
    keywords: Any = {"root": str(tmp_path), "split": "x", "listing": "list.txt", "num_classes": 2, "ignore_index": 255}
    for line in ("a wet street", "images/a wet street.png\tmasks/a wet street.png"):
        (tmp_path / "list.txt").write_text(line + "\n")
        reader = FileReader(image="images/{name}.png", mask="masks/{name}.png", **keywords)
        assert reader.names == ["a wet street"]
        assert reader[0].mask.shape == (4, 5)


def test_a_list_that_is_no_path_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.splits\.train=5: give the path of a list file"):
        FileReader.exists(root=None, split="train", listing=5, image="{name}.png")  # type: ignore[arg-type]


def test_classes_that_no_training_pixel_has_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "val"):
        write(tmp_path / split / "a.png", np.zeros((4, 3, 3)))
        write(tmp_path / f"{split}annot" / "a.png", np.array([[0, 1, 255]]).repeat(4, 0))
        FileReader(root=str(tmp_path), split=split, listing=None, image="{split}/{name}.png",
                   mask="{split}annot/{name}.png", num_classes=3, ignore_index=255).check()  # fmt: skip
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        "no training pixel is of class 2; if masks store other labels, set data.reader.labels",
        "no pixel of val is of class 2, which its means leave out",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ["road"], "colours": [[0, 0, 0]]}, "data.classes: 1 of them"),
        ({"classes": ["road", "road"], "colours": [[0, 0, 0]] * 2}, "data.classes: a name is there twice"),
        ({"classes": ["road", "car"], "colours": [[0, 0, 0]]}, "data.colours: 1 for 2 classes"),
        ({"classes": ["road", "car"], "colours": [[0, 0, 0], [0, 256, 0]]}, "data.colours"),
        ({"classes": ["road", "car"], "colours": [[0, 0, 0], [0, 25]]}, "data.colours"),
        ({"ignore_index": -1}, "data.ignore_index=-1"),
        ({"ignore_index": 300}, "data.ignore_index=300"),
    ],
)
def test_settings_that_masks_cannot_have_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        module("synthetic", **changes)


@pytest.mark.parametrize("mapping", [{7: 12}, {256: 1}, {7: -1}])
def test_a_label_map_leads_to_classes(mapping: dict[int, int], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="label_map"):
        file_reader(tree(tmp_path), label_map=mapping)


def test_missing_root_is_named() -> None:
    with pytest.raises(UserError, match=r"data.root: not set"):
        module("camvid").prepare("train")
    with pytest.raises(UserError, match=r"data.root=/no/where: no such folder"):
        module("camvid", root="/no/where").prepare("train")


def test_checking_can_be_switched_off(tmp_path: Path) -> None:
    (tree(tmp_path) / "val" / "0000TP_000000.png").unlink()
    module("camvid", root=str(tmp_path), check=False).prepare("val")
    with pytest.raises(UserError):
        module("camvid", root=str(tmp_path), cache="off").prepare("val")


def scenes(**changes: Any) -> SyntheticReader:
    keywords: dict[str, Any] = {
        "root": None, "split": "train", "listing": 12, "num_classes": len(CLASSES), "ignore_index": VOID,
        "size": [64, 160], "seed": 0,
    }  # fmt: skip
    return SyntheticReader(**keywords | changes)


def test_scenes_depend_on_seed_split_and_index_alone() -> None:
    first, again = scenes()[3], scenes(listing=5)[3]
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    for other in (scenes()[4], scenes(seed=1)[3], scenes(split="val")[3]):
        assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("size", [[32, 48], [50, 61], [120, 90], [256, 512]], ids=str)
def test_scenes_of_any_size_hold_classes_and_void(size: list[int]) -> None:
    sample = scenes(size=size)[0]
    assert sample.image.shape == (*size, 3)
    assert set(np.unique(sample.mask)) <= {*range(len(CLASSES)), VOID}


def test_the_pairs_look_alike_and_only_a_far_sign_tells() -> None:
    """Vehicles have one state a scene, told by the light's colour at the left edge, a fifth of the width off."""
    seen = set()
    for sample in (scenes(listing=40)[index] for index in range(40)):
        states = {name for name in ("moving", "waiting") if (sample.mask == LABEL[name]).any()}
        assert len(states) == 1
        vehicle = np.isin(sample.mask, [LABEL["moving"], LABEL["waiting"]])
        sign = (sample.mask == LABEL["sign"]) & (np.arange(160) < 40)
        assert np.argwhere(vehicle)[:, 1].min() - np.argwhere(sign)[:, 1].max() > 160 / 5
        red, green, _ = sample.image[sign].astype(int).T
        light = "waiting" if (red - green).max() > (green - red).max() else "moving"
        assert states == {light}
        seen |= states
    assert seen == {"moving", "waiting"}


def test_augmentation_follows_its_seed_alone() -> None:
    image, mask = scenes()[0][:2]
    one, other = Augmentation(FLIP, VOID), Augmentation(FLIP, VOID)
    results = [one(image, mask, seed)[0] for seed in range(12)]
    shuffled = {seed: other(image, mask, seed)[0] for seed in reversed(range(12))}
    assert all(np.array_equal(shuffled[seed], result) for seed, result in enumerate(results))
    assert len({result.tobytes() for result in results}) == 2


def test_masks_keep_their_labels_and_void_moves_in() -> None:
    image, mask = scenes()[0][:2]
    _, moved = Augmentation(ZOOM, VOID)(image, mask, 0)
    assert set(np.unique(moved)) <= set(np.unique(mask))
    assert (moved == VOID).mean() > 0.5
    assert set(np.unique(resize_mask(mask, (31, 77)))) <= set(np.unique(mask))
    assert resize_image(image, (31, 77)).shape == (31, 77, 3)


def test_transforms_of_one_probability_do_not_act_together() -> None:
    both = FLIP | {"light": {"_target_": "albumentations.InvertImg", "p": 0.5}}
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 0] = 200
    augmentation = Augmentation(both, VOID)
    seen = {augmentation(image, image[..., 0], seed)[0].tobytes() for seed in range(40)}
    assert len(seen) == 4


def test_any_transform_fills_masks_with_void() -> None:
    mask = np.zeros((8, 8), np.uint8)
    nested = {"_target_": "albumentations.OneOf", "p": 1.0, "transforms": [
        {"_target_": "albumentations.PadIfNeeded", "min_height": 16, "min_width": 16, "p": 1.0}]}  # fmt: skip
    _, padded = Augmentation({"pad": nested}, 11)(np.zeros((8, 8, 3), np.uint8), mask, 0)
    assert (padded == 0).sum() == 64
    assert (padded == 11).sum() == 256 - 64


def test_bad_transforms_are_errors() -> None:
    with pytest.raises(UserError, match=r"augment.zoom.fill_mask"):
        build_transform("zoom", ZOOM["zoom"] | {"fill_mask": 3})
    with pytest.raises(UserError, match=r"augment.flip: .*probability"):
        build_transform("flip", {"_target_": "albumentations.HorizontalFlip", "probability": 1})
    with pytest.raises(UserError, match="only 0"):
        build_transform("zoom", {"_target_": "albumentations.Affine", "mask_interpolation": 1})
    smaller = {"_target_": "albumentations.Resize", "height": 4, "width": 4, "area_for_downscale": "image_mask"}
    with pytest.raises(UserError, match="only image"):
        build_transform("smaller", smaller)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_out_an_epoch(world: int) -> None:
    samplers = [TrainSampler(20, seed=1, rank=rank, world=world) for rank in range(world)]
    keys = [list(sampler) for sampler in samplers]
    assert len({len(part) for part in keys}) == 1
    seen = [key for part in keys for key in part]
    assert len(set(seen)) == len(seen) == 20 - 20 % world
    samplers[0].set_epoch(1)
    assert [index for _, index in samplers[0]] != [index for _, index in keys[0]]
    evaluated = [key for rank in range(world) for key in EvaluationSampler(20, rank, world)]
    assert sorted(evaluated) == [(0, index) for index in range(20)]


def test_evaluation_may_leave_a_process_without_images() -> None:
    assert [len(EvaluationSampler(2, rank, 3)) for rank in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("length", "size", "sizes"), [(9, 4, [4, 4]), (10, 4, [4, 4, 2]), (3, 1, [1, 1, 1]), (1, 4, [])]
)
def test_a_last_batch_of_one_is_dropped(length: int, size: int, sizes: list[int]) -> None:
    batches = TrainBatches(TrainSampler(length, 0, 0, 1), size)
    assert [len(batch) for batch in batches] == sizes
    assert len(batches) == len(sizes)


def epoch_of(data: DataModule, epoch: int) -> dict[int, torch.Tensor]:
    loader = data.train_dataloader()
    loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
    return {int(i): image for batch in loader for i, image in zip(batch["index"], batch["image"], strict=True)}


def test_samples_do_not_depend_on_workers_or_on_what_came_before() -> None:
    small: dict[str, Any] = {"size": [32, 48], "splits": {"train": 12, "val": 2}, "batch_size": 4}
    alone = epoch_of(module("synthetic", FLIP, **small), 2)
    earlier = module("synthetic", FLIP, **small)
    epoch_of(earlier, 1)
    for other in (epoch_of(earlier, 2), epoch_of(module("synthetic", FLIP, num_workers=2, **small), 2)):
        assert alone.keys() == other.keys()
        assert all(torch.equal(alone[index], image) for index, image in other.items())
    for different in (epoch_of(earlier, 3), epoch_of(module("synthetic", FLIP, seed=1, **small), 2)):
        assert any(not torch.equal(alone[index], image) for index, image in different.items())


def test_evaluation_keeps_the_masks_own_resolution(tmp_path: Path) -> None:
    data = module("camvid", root=str(tree(tmp_path)), size=[10, 16])
    for batch in data.val_dataloader():
        assert tuple(batch["image"].shape) == (1, 3, 10, 16)
        assert tuple(batch["mask"].shape) == (1, 20, 30)
    assert tuple(next(iter(module("camvid", root=str(tmp_path), size=[10, 16], eval_batch_size=3).val_dataloader()))
                 ["image"].shape) == (3, 3, 10, 16)  # fmt: skip


def test_batch_size_is_of_an_optimizer_step_over_all_processes() -> None:
    data = module("synthetic", size=[32, 48], batch_size=12)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=2, num_devices=2, global_rank=0, accumulate_grad_batches=3, strategy=strategy
    )
    assert len(next(iter(data.train_dataloader()))["index"]) == 2
    data.trainer.accumulate_grad_batches = 5  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"data.batch_size=12: does not divide by 10"):
        data.train_dataloader()


def test_the_index_stays_with_the_host() -> None:
    """A validation reads it after every batch, which must not wait for the device."""
    data = module("synthetic", size=[32, 48], batch_size=2)
    batch = next(iter(data.val_dataloader()))
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved["image"].is_meta
    assert moved["mask"].is_meta
    assert torch.equal(moved["index"], batch["index"])


def test_images_of_several_sizes_ask_for_one(tmp_path: Path) -> None:
    write(tree(tmp_path) / "train/0001TP_000003.png", np.zeros((21, 30, 3)))
    write(tmp_path / "trainannot/0001TP_000003.png", np.zeros((21, 30)))
    with pytest.raises(UserError, match=r"data.size: .*set data.size"):
        list(module("camvid", root=str(tmp_path), batch_size=4).train_dataloader())


def test_workers_are_for_devices_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert count_workers("auto", False, 1) == 0
    assert [count_workers("auto", True, processes) for processes in (1, 2, 4, 16)] == [8, 6, 3, 1]
    assert count_workers(3, False, 2) == 3
    for wrong in (-1, "many", 1.5):
        with pytest.raises(UserError, match=r"data\.num_workers="):
            count_workers(wrong, True, 1)  # type: ignore[arg-type]
