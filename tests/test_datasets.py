"""Every data set's YAML against a small tree of its exact layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segmentation.colours import default_colours
from segmentation.config import CONF
from segmentation.data.masks import StoredLabels, expand
from segmentation.data.module import DataModule
from segmentation.errors import UserError
from tests.conftest import Compose
from tests.settings import plain

IMAGE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
VOID = 255
SPLITS = ("train", "val", "test")


def write(path: Path, array: Any, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(array, np.uint8))
    if palette:
        picture.putpalette(list(range(256)) * 3)
    picture.save(path)


def lists(root: Path, **content: str) -> None:
    for place, text in content.items():
        path = root / f"{place.replace('__', '/')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def camvid(root: Path) -> Any:
    for split in SPLITS:
        write(root / split / "0001TP_1.png", IMAGE)
        write(root / f"{split}annot" / "0001TP_1.png", [[0, 10, 11], [1, 2, 3]])
    # As published: with the folder that the list's author had.
    before = "/SegNet/CamVid/"
    lists(root, **{split: f"{before}{split}/0001TP_1.png {before}{split}annot/0001TP_1.png\n" for split in SPLITS})
    return [[0, 10, 11], [1, 2, 3]]


def voc(root: Path, masks: str = "SegmentationClass", listed: str = "ImageSets__Segmentation__train") -> Any:
    for name in ("2007_000032", "2007_000033"):
        write(root / "JPEGImages" / f"{name}.jpg", IMAGE)
        write(root / masks / f"{name}.png", [[0, 20, 255], [1, 2, 3]], palette=True)
    lists(root, **{listed: "2007_000032\r\n2007_000033\r\n", "ImageSets__Segmentation__val": "2007_000033\r\n"})
    return [[0, 20, VOID], [1, 2, 3]]


def voc_aug(root: Path) -> Any:
    found = voc(root, "SegmentationClassAug", "ImageSets__SegmentationAug__train_aug")
    # As the list is passed around: paths from the root, with a slash before.
    pairs = "/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png\n"
    lists(root, ImageSets__SegmentationAug__train_aug=pairs)
    return found


def cityscapes(root: Path) -> Any:
    for split in ("train", "val"):
        for city in ("aachen", "bremen"):
            name = f"{city}_000000_000019"
            write(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", IMAGE)
            stored = [[7, 33, 0], [8, 29, 34]]  # road, bicycle, unlabelled; sidewalk, caravan, licence plate
            write(root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", stored)
            write(root / "gtFine" / split / city / f"{name}_gtFine_color.png", IMAGE)
    return [[0, 18, VOID], [1, VOID, VOID]]


def ade20k(root: Path) -> Any:
    for split in ("training", "validation"):
        write(root / "images" / split / f"ADE_{split}_1.jpg", IMAGE)
        write(root / "annotations" / split / f"ADE_{split}_1.png", [[1, 150, 0], [2, 3, 4]])
    return [[0, 149, VOID], [1, 2, 3]]


def pet(root: Path) -> Any:
    names = [f"Abyssinian_{number}" for number in range(1, 11)]
    for name in names:
        write(root / "images" / f"{name}.jpg", IMAGE)
        write(root / "annotations" / "trimaps" / f"{name}.png", [[1, 2, 3], [1, 1, 2]])
    lines = "#Image CLASS-ID SPECIES BREED ID\n" + "\n".join(f"{name} 1 1 1" for name in names)
    lists(root, annotations__trainval=lines, annotations__test="Abyssinian_1 1 1 1\n")
    return [[0, 1, 2], [0, 0, 1]]


def coco_stuff(root: Path) -> Any:
    for split in ("train", "val"):
        write(root / "images" / f"{split}2017" / "000000000139.jpg", IMAGE)
        write(root / "annotations" / f"{split}2017" / "000000000139.png", [[0, 181, 255], [12, 91, 89]])
    return [[0, 170, VOID], [11, 80, 79]]


def coco(root: Path) -> Any:
    runs = {"size": [2, 3], "counts": [4, 2]}  # by columns: the last column
    crowd = {"size": [2, 3], "counts": [0, 1, 5]}
    whole = [[0, 0, 3, 0, 3, 2, 0, 2]]
    objects = [
        {"id": 1, "image_id": 9, "category_id": 18, "segmentation": runs, "area": 2, "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 1, "segmentation": whole, "area": 6, "iscrowd": 0},
        {"id": 3, "image_id": 9, "category_id": 1, "segmentation": crowd, "area": 1, "iscrowd": 1},
        {"id": 4, "image_id": 9, "category_id": 77, "segmentation": whole, "area": 9, "iscrowd": 0},  # no class
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 77, "name": "kite"}]
    for split in ("train", "val"):
        write(root / f"{split}2017" / "000000000009.jpg", IMAGE)
        images = [{"id": 9, "file_name": "000000000009.jpg", "height": 2, "width": 3}]
        content = {"images": images, "annotations": objects, "categories": categories}
        path = root / "annotations" / f"instances_{split}2017.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return [[VOID, 1, 2], [1, 1, 2]]


def folder(root: Path) -> Any:
    for split in ("train", "val"):
        write(root / split / "images" / "a.jpg", IMAGE)
        write(root / split / "masks" / "a.png", [[0, 1, 255], [1, 1, 0]])
    return [[0, 1, VOID], [1, 1, 0]]


LAYOUTS: dict[str, Callable[[Path], Any]] = {
    "camvid": camvid, "voc": voc, "voc_aug": voc_aug, "cityscapes": cityscapes, "ade20k": ade20k, "pet": pet,
    "coco_stuff": coco_stuff, "coco": coco, "folder": folder,
}  # fmt: skip
NEEDS = {"folder": ("data.classes=[no,yes]",), "coco": ("data.classes=[background,person,dog]",)}


def load(compose: Compose, name: str, root: Path, *words: str) -> DataModule:
    return DataModule(plain(compose(f"data={name}", f"data.root={root}", *NEEDS.get(name, ()), *words))["data"], {}, 0)


def test_every_data_set_has_a_layout() -> None:
    assert set(LAYOUTS) == {path.stem for path in (CONF / "data").glob("*.yaml")} - {"synthetic"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name: str, compose: Compose, tmp_path: Path) -> None:
    expected = LAYOUTS[name](tmp_path)
    data = load(compose, name, tmp_path)
    data.prepare("train", "val")
    for split in ("train", "val", data.test_split):
        sample = data.reader(split)[0]
        assert sample.mask.tolist() == expected
        assert sample.image.shape == IMAGE.shape
        assert data.reader(split)[0].mask.tolist() == expected  # from the cache alike
    assert len(data.colours) == len(data.classes)


def test_pets_validation_is_held_out_of_its_training(compose: Compose, tmp_path: Path) -> None:
    pet(tmp_path)
    data = load(compose, "pet", tmp_path)
    assert (len(data.reader("train")), len(data.reader("val")), len(data.reader("test"))) == (8, 2, 1)


@pytest.mark.parametrize(
    ("words", "stored", "expected"),
    [
        (["data.reader.labels=[0,255]"], [[0, 255]], [[0, 1]]),
        (["data.reader.labels=[0,255]", "data.ignore_index=7"], [[255, 7]], [[1, 7]]),
        (["data.reader.masks=colours", "data.colours=[[9,9,9],[200,0,1]]"], [[[200, 0, 1], [9, 9, 9]]], [[1, 0]]),
        (
            ["data.reader.masks=colours", "data.colours=[[9,9,9],[200,0,1]]", "data.reader.void_colours=[[0,0,0]]"],
            [[[0, 0, 0], [9, 9, 9]]],
            [[255, 0]],
        ),
        (["data.reader.others=void"], [[0, 77]], [[0, 255]]),
    ],
)
def test_masks_of_many_kinds(words: list[str], stored: Any, expected: Any, compose: Compose, tmp_path: Path) -> None:
    write(tmp_path / "train" / "images" / "a.png", np.zeros((1, 2, 3)))
    write(tmp_path / "train" / "masks" / "a.png", stored)
    assert load(compose, "folder", tmp_path, *words).reader("train")[0].mask.tolist() == expected


def test_a_palette_may_be_read_by_its_colours(compose: Compose, tmp_path: Path) -> None:
    write(tmp_path / "train" / "images" / "a.png", np.zeros((1, 2, 3)))
    picture = Image.fromarray(np.array([[4, 9]], np.uint8))
    picture.putpalette([0] * 12 + [1, 2, 3] + [0] * 12 + [7, 8, 9])
    (tmp_path / "train" / "masks").mkdir()
    picture.save(tmp_path / "train" / "masks" / "a.png")
    words = ("data.reader.masks=colours", "data.colours=[[7,8,9],[1,2,3]]")
    assert load(compose, "folder", tmp_path, *words).reader("train")[0].mask.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("words", "stored", "said"),
    [
        (["data.reader.masks=colour"], [[0]], "data.reader.masks=colour: no such choice; did you mean 'colours'"),
        (["data.reader.others=ignore"], [[0]], "data.reader.others=ignore: no such choice"),
        (["data.reader.labels=[0]"], [[0]], "data.reader.labels: 1 for 2 classes"),
        (["data.reader.labels=[0,b]"], [[0]], "'b' is neither a number nor a range"),
        ([], [[0, 255], [2, 0]], "label 2 is no class and not data.ignore_index; data.reader.labels says"),
        (["data.ignore_index=7"], [[0, 255]], "0 and 255 are two classes by data.reader.labels=[0,255]"),
        ([], [[[1, 2, 3]]], "a mask in colours; where each class has one, set data.reader.masks=colours"),
        (
            ["data.reader.masks=colours", "data.colours=[[9,9,9],[200,0,1]]"],
            [[[1, 2, 3]]],
            "the colour [1, 2, 3] is of no class; add it to data.colours",
        ),
        (["data.reader.masks=colours", "data.colours=[[9,9,9],[9,9,9]]"], [[0]], "two classes have one colour"),
        (["data.reader.void_colours=[[0,0,0]]"], [[0]], "data.reader.void_colours: is of masks of colours; set data."),
        (
            ["data.reader.masks=colours", "data.colours=[[9,9,9],[1,1,1]]", "data.reader.labels=[0,1]"],
            [[0]],
            "data.reader.labels: is of masks of labels",
        ),
        (["+data.reader.lables=[0,255]"], [[0]], "data.reader: refuses its arguments: "),
        (["data.reader.image=."], [[0]], "data.reader: the pattern '.' names no file"),
    ],
)
def test_what_masks_do_not_fit_is_said(
    words: list[str], stored: Any, said: str, compose: Compose, tmp_path: Path
) -> None:
    size = np.asarray(stored).shape[:2]
    write(tmp_path / "train" / "images" / "a.png", np.zeros((*size, 3)))
    write(tmp_path / "train" / "masks" / "a.png", stored)
    with pytest.raises(UserError) as caught:
        load(compose, "folder", tmp_path, *words).prepare("train")
    assert said in str(caught.value)


def test_a_list_that_is_not_there_is_said(compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "train" / "images" / "a.png", np.zeros((1, 1, 3)))
    write(tmp_path / "train" / "masks" / "a.png", [[0]])
    load(compose, "folder", tmp_path, "data.splits.test=tset.txt")
    assert "data.splits.test=tset.txt: not in" in caplog.text
    assert "data.splits.val" not in caplog.text  # null says: where it is there


def test_ranges_of_labels() -> None:
    assert expand([7, "9-11", "3"]) == [7, 9, 10, 11, 3]
    for far in ("0-300000000", "9-3", 256):  # numbers that would fill the memory, none, and what no mask holds
        with pytest.raises(UserError, match="goes beyond what masks hold"):
            expand([far])
    table = StoredLabels(num_classes=3, ignore_index=255, labels=["4-6"]).table
    assert table[[4, 5, 6, 255, 0]].tolist() == [0, 1, 2, 255, -1]


def test_default_colours_are_pascals() -> None:
    assert default_colours(4) == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert default_colours(21)[20] == [0, 64, 128]
    assert len({tuple(colour) for colour in default_colours(255)}) == 255


def spoil_json(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        path = root / "annotations" / "instances_train2017.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "annotations/instances_train2017.json").write_text("{"), "not COCO's JSON"),
        (spoil_json(lambda content: content.pop("images")), "not COCO's JSON"),
        (spoil_json(lambda content: content["images"][0].pop("width")), "an entry of images has no 'width'"),
        (spoil_json(lambda content: content["images"][0].update(width=4)), "3x2, but instances_train2017.json says"),
        (spoil_json(lambda content: content["categories"].pop(1)), "has no category 'dog'"),
        (spoil_json(lambda content: content["annotations"][0].update(segmentation=[[1]])), "cannot be drawn"),
        (spoil_json(lambda content: content["annotations"][0].update(segmentation=[])), "a box without an outline"),
        (spoil_json(lambda content: content["images"].append(content["images"][0])), "names must be unique"),
    ],
)
def test_broken_annotations_are_named(spoil: Any, said: str, compose: Compose, tmp_path: Path) -> None:
    coco(tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError) as caught:
        load(compose, "coco", tmp_path).prepare("train")
    assert said in str(caught.value)


def test_without_background_what_is_no_object_is_void(compose: Compose, tmp_path: Path) -> None:
    coco(tmp_path)
    mask = load(compose, "coco", tmp_path, "data.classes=[person,dog]").reader("val")[0].mask
    assert mask.tolist() == [[VOID, 0, 1], [0, 0, 1]]


def test_a_folder_that_holds_something_else_is_named(compose: Compose, tmp_path: Path) -> None:
    for name, words in {"voc": "data.download=true fetches it", "cityscapes": "see data.root"}.items():
        with pytest.raises(UserError) as caught:
            load(compose, name, tmp_path)
        assert f"data.root={tmp_path}: not the folder of {name}, no " in str(caught.value)
        assert words in str(caught.value)
