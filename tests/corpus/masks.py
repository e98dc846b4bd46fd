"""Kinds of masks, of pairs of image and mask, and of splits."""

import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.corpus.kinds import HEIGHT, WIDTH, Place, Reads, Refused, filtered, labels, picture, png, save


def a_folder(place: Place) -> Refused:
    place.image.unlink()
    place.image.mkdir()
    return Refused(("images/odd.png", "a folder and not a file"))


def mask_truncated(place: Place) -> Refused:
    place.mask.write_bytes(place.mask.read_bytes()[:70])
    return Refused(("masks/odd.png", "cannot be read as an image", "make it anew or leave it out"))


def mask_a_pipe(place: Place) -> Refused:
    place.mask.unlink()
    os.mkfifo(place.mask)
    return Refused(("masks/odd.png", "not a file"))


def mask_missing(place: Place) -> Refused:
    place.mask.unlink()
    return Refused(("masks/odd.png", "no such file", "images/odd.png"))


def zeros_and_255(place: Place) -> Refused:
    for mask in place.root.rglob("masks/*.png"):
        save(mask, np.where(labels() == 1, 255, 0).astype(np.uint8))
    return Refused(("train", "nothing but 0 and 255", "data.reader.labels=[0,255]"))


def zeros_and_255_without_void(place: Place) -> Refused:
    zeros_and_255(place)
    return Refused(("train/masks/good.png", "label 255", "data.reader.labels=[0,255]"), {"ignore_index": 7})


def label_too_high(place: Place) -> Refused:
    save(place.mask, np.where(labels() == 2, 3, labels()).astype(np.uint8))
    return Refused(("masks/odd.png", "label 3 is no class", "data.reader.labels", "data.reader.others=void"))


def labels_with_holes(place: Place) -> Reads:
    for mask in place.root.rglob("masks/*.png"):
        save(mask, np.array([0, 40, 200, *range(3, 255), 255], np.uint8)[labels()])
    return Reads(words={"reader": {"labels": [0, 40, 200]}})


def palette_with_holes(place: Place) -> Reads:
    """The palette has fewer colours than the mask has labels."""
    png(place.mask, (WIDTH, HEIGHT, 8, 3, 0), filtered(labels()), b"PLTE" + bytes(range(6)))
    return Reads()


def palette_with_transparency(place: Place) -> Reads:
    mask = Image.fromarray(labels())
    mask.putpalette(list(range(256)) * 3)
    mask.save(place.mask, transparency=0)
    return Reads()


def mask_of_floats(place: Place) -> Refused:
    save(place.mask, labels().astype(np.float32), format="TIFF")
    return Refused(("masks/odd.png", "a mask of mode F", "grey"))


def mask_of_16_bits(place: Place) -> Reads:
    save(place.mask, labels().astype(np.uint16))
    return Reads()


def mask_of_32_bits(place: Place) -> Reads:
    save(place.mask, labels().astype(np.int32), format="TIFF")
    return Reads()


def mask_above_255(place: Place) -> Refused:
    save(place.mask, np.where(labels() == 2, np.uint16(1000), labels()))
    return Refused(("masks/odd.png", "label 1000", "0 to 255"))


def mask_negative(place: Place) -> Refused:
    save(place.mask, np.where(labels() == 255, np.int32(-1), labels()), format="TIFF")
    return Refused(("masks/odd.png", "label -1", "0 to 255"))


def mask_negative_of_16_bits(place: Place) -> Refused:
    values = np.where(labels() == 255, np.int16(-1), labels()).astype("<i2")
    image = Image.frombytes("I;16", (WIDTH, HEIGHT), values.tobytes())
    image.save(place.mask, format="TIFF", tiffinfo={339: 2})
    return Refused(("masks/odd.png", "label -1", "0 to 255"))


def mask_of_one_bit(place: Place) -> Reads:
    save(place.mask, labels() == 1)
    return Reads(mask=labels() == 1)


def mask_in_colours(place: Place) -> Refused:
    save(place.mask, picture())
    return Refused(("masks/odd.png", "a mask in colours", "data.reader.masks=colours"))


def mask_with_alpha(place: Place) -> Refused:
    save(place.mask, np.stack([labels(), labels()], 2))
    return Refused(("masks/odd.png", "a mask of mode LA", "grey"))


def mask_of_jpeg(place: Place) -> Refused:
    save(place.mask, labels() % 2, format="JPEG")
    return Refused(("masks/odd.png", "JPEG", "as PNG"))


def mask_animated(place: Place) -> Refused:
    Image.fromarray(labels()).save(
        place.mask, format="GIF", save_all=True, append_images=[Image.fromarray(labels() % 2)]
    )
    return Refused(("masks/odd.png", "2 frames", "extract"))


def mask_of_zero_size(place: Place) -> Refused:
    png(place.mask, (0, HEIGHT, 8, 0, 0), filtered(np.zeros((HEIGHT, 0), np.uint8)))
    return Refused(("masks/odd.png", "cannot be read as an image"))


def another_size(place: Place) -> Refused:
    save(place.mask, labels()[:, :-3])
    return Refused(("masks/odd.png", "11x10, but its image", "is 14x10", "draw it on this image"))


def image_turned_and_mask_not(place: Place) -> Refused:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(place.image, picture(), exif=exif)
    return Refused(("masks/odd.png", "14x10, but its image", "is 10x14", "EXIF"))


def void_throughout(place: Place) -> Refused:
    for mask in (place.root / "val/masks").iterdir():
        save(mask, np.full_like(labels(), 255))
    return Refused(("val", "no pixel has a class", "data.ignore_index"))


def names_of_other_case(place: Place) -> Refused:
    place.mask.rename(place.mask.with_name("Odd.png"))
    return Refused(("masks/odd.png", "no such file", "Odd.png"))


def names_composed_otherwise(place: Place) -> Refused:
    """The same letter, as one sign and as two: macOS and others differ in this."""
    place.rename("straße é.png")
    place.mask.rename(place.mask.with_name(unicodedata.normalize("NFD", place.mask.name)))
    return Refused(("no such file", "written otherwise"))


def two_endings(place: Place) -> Refused:
    save(place.image.with_suffix(".jpg"), picture())
    return Refused(("odd.jpg", "odd.png", "both are called 'odd'"))


def two_endings_in_a_list(place: Place) -> Refused:
    save(place.image.with_suffix(".jpg"), picture())
    return Refused(("odd.jpg", "odd.png", "both fit"), place.list(b"good\nodd\n"))


def ending_of_other_case(place: Place) -> Refused:
    """Not left out without a word."""
    place.image.rename(place.image.with_suffix(".PNG"))
    words = {"reader": {"image": "{split}/images/{name}.png"}}
    return Refused(("images/odd.PNG", "upper and lower case", "rename"), words)


def brackets(place: Place) -> Reads:
    """Not a pattern, though it looks like one."""
    place.rename("odd [1].png")
    return Reads(name="odd [1]", words=place.list(b"odd [1]\n"))


def not_an_image_among_them(place: Place) -> Refused:
    (place.image.with_name("Thumbs.db")).write_bytes(b"\0" * 100)
    return Refused(("Thumbs.png", "no such file", "Thumbs.db"))


def empty_split(place: Place) -> Refused:
    for file in (place.root / "train/images").iterdir():
        file.unlink()
    return Refused(("no split 'train'", str(place.root), "data.reader.image"))


def no_data_at_all(place: Place) -> Refused:
    shutil.rmtree(place.root / "train")
    shutil.rmtree(place.root / "val")
    return Refused((str(place.root), "not the folder of", "data.root"))


def folders_that_lead_in_circles(place: Place) -> Reads:
    (place.root / "train/images/again").symlink_to(place.root / "train")
    return Reads()


def colours(root: Path) -> dict[str, Any]:
    """Make all masks pictures of colours, and give the keys that say so."""
    table = np.zeros((256, 3), np.uint8)
    table[:3], table[255] = [[0, 0, 0], [128, 64, 0], [9, 9, 200]], [255, 255, 255]
    for mask in root.rglob("masks/*.png"):
        save(mask, table[labels()])
    reader = {"masks": "colours", "void_colours": [[255, 255, 255]]}
    return {"reader": reader, "colours": table[:3].tolist()}


def colours_of_jpeg(place: Place) -> Refused:
    words = colours(place.root)
    Image.open(place.mask).save(place.mask, format="JPEG")
    return Refused(("masks/odd.png", "JPEG", "as PNG"), words)


def colour_of_no_class(place: Place) -> Refused:
    words = colours(place.root)
    save(place.mask, picture())
    return Refused(("masks/odd.png", "is of no class", "data.colours"), words)
