"""What mask files store, and the classes it stands for: labels by number, or colours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segmentation.data.images import Pixels, open_image
from segmentation.errors import UserError, nearest

OTHERS = ("refuse", "void")


def refuse_unread(given: Mapping[str, object], kind: str) -> None:
    """Raise a UserError for what is given although only masks of the other kind read it."""
    for key in (key for key, value in given.items() if value):
        raise UserError(f"data.reader.{key}: is of masks of {kind}; set data.reader.masks={kind}, or leave it out")


class StoredLabels:
    """Masks that store a label for each pixel, as grey values or as indices of a palette.

    Args:
        num_classes: labels become 0 ... num_classes - 1.
        ignore_index: label of void pixels, in files as well unless a class claims it.
        labels: the stored label of each class in order, numbers and ranges such as `0-10`; None takes 0, 1, 2, ...
        label_map: stored label -> label, for those that differ further.
        others: whether all other stored labels are `void`, or to `refuse`.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        ignore_index: int,
        labels: Sequence[int | str] | None = None,
        label_map: Mapping[int, int] | None = None,
        others: str = "refuse",
        colours: object = None,
        void_colours: Sequence[Sequence[int]] = (),
    ) -> None:
        refuse_unread({"void_colours": void_colours}, "colours")
        if others not in OTHERS:
            raise UserError(f"data.reader.others={others}: no such choice; {nearest(others, OTHERS)}")
        stored = list(range(num_classes)) if labels is None else expand(labels)
        if len(stored) != num_classes:
            raise UserError(f"data.reader.labels: {len(stored)} for {num_classes} classes; give each class one")
        pairs = {**dict(zip(stored, range(num_classes), strict=True)), **(label_map or {})}
        self.table = label_table(pairs, num_classes, ignore_index, ignore_index if others == "void" else -1)

    def __call__(self, path: Path) -> Pixels:
        """The labels [H, W] of a mask file.

        Raises:
            UserError: for a file that cannot be read, or a label that is no class.
        """
        stored = read_labels(path)
        labels = self.table[stored]
        if labels.min() < 0:
            label = int(stored[labels < 0][0])
            found = set(np.unique(stored).tolist())
            cure = (
                "data.reader.labels says which labels the classes have, data.reader.others=void makes all others void"
            )
            if found == {0, 255}:
                cure = "0 and 255 are two classes by data.reader.labels=[0,255]"
            raise UserError(f"{path}: label {label} is no class and not data.ignore_index; {cure}")
        return labels.astype(np.uint8)

    def fingerprint(self) -> bytes:
        """All that the labels of a file depend on beside the file."""
        return self.table.tobytes()


class ColouredLabels:
    """Masks that show each class in its colour.

    Args:
        ignore_index: label of void pixels.
        colours: an RGB triple for each class.
        void_colours: RGB triples of void pixels.
        num_classes: labels are 0 ... num_classes - 1.
        labels: is of `StoredLabels`, as are label_map and others.
    """

    def __init__(
        self,
        *,
        ignore_index: int,
        colours: Sequence[Sequence[int]],
        void_colours: Sequence[Sequence[int]] = (),
        num_classes: int | None = None,
        labels: object = None,
        label_map: object = None,
        others: str = "refuse",
    ) -> None:
        refuse_unread({"labels": labels, "label_map": label_map, "others": others != "refuse"}, "labels")
        known = [*colours, *void_colours]
        if len({tuple(colour) for colour in known}) < len(known):
            raise UserError("data.colours: two classes have one colour, and masks of colours cannot tell them apart")
        codes = as_codes(np.array(known, np.uint8))
        labels = [*range(len(colours)), *[ignore_index] * len(void_colours)]
        order = codes.argsort()
        self.codes, self.labels = codes[order], np.array(labels, np.uint8)[order]

    def __call__(self, path: Path) -> Pixels:
        """The labels [H, W] of a mask file.

        Raises:
            UserError: for a file that cannot be read, or a colour that is of no class.
        """
        codes = as_codes(np.asarray(open_image(path, exact=True).convert("RGB")))
        places = np.searchsorted(self.codes, codes).clip(max=len(self.codes) - 1)
        unknown = self.codes[places] != codes
        if unknown.any():
            code = int(codes[unknown][0])
            raise UserError(
                f"{path}: the colour {[code >> 16, code >> 8 & 255, code & 255]} is of no class; add it to "
                "data.colours with its class, or to data.reader.void_colours"
            )
        labels: Pixels = self.labels[places]
        return labels

    def fingerprint(self) -> bytes:
        """All that the labels of a file depend on beside the file."""
        return self.codes.tobytes() + self.labels.tobytes()


MASKS: dict[str, Any] = {"labels": StoredLabels, "colours": ColouredLabels}


def expand(labels: Sequence[int | str]) -> list[int]:
    """Numbers 0 to 255 and ranges of them (`0-10`, both ends included) as numbers, in order."""
    found: list[int] = []
    for entry in labels:
        first, _, last = str(entry).partition("-")
        try:
            start, end = int(first), int(last or first)
        except ValueError:
            raise UserError(f"data.reader.labels: {entry!r} is neither a number nor a range such as 0-10") from None
        if not 0 <= start <= end <= 255:
            raise UserError(f"data.reader.labels: {entry!r} goes beyond what masks hold, 0 to 255")
        found += range(start, end + 1)
    return found


def label_table(pairs: Mapping[int, int], num_classes: int, ignore_index: int, others: int) -> npt.NDArray[np.int16]:
    """Stored label (0...255) -> class, ignore index, or `others` where it is none of `pairs`."""
    table = np.full(256, others, np.int16)
    table[ignore_index] = ignore_index
    for stored, label in pairs.items():
        if not 0 <= int(stored) <= 255 or not (0 <= label < num_classes or label == ignore_index):
            raise UserError(
                f"data.reader.label_map: {stored}: {label} does not map one of 0 to 255 to a class or data.ignore_index"
            )
        table[int(stored)] = label
    return table


def read_labels(path: Path) -> Pixels:
    """A mask file's stored labels [H, W], the grey values or a palette's indices, turned as its own EXIF tag says."""
    mask = open_image(path, exact=True)
    if mask.mode in ("RGB", "RGBA"):
        raise UserError(f"{path}: a mask in colours; where each class has one, set data.reader.masks=colours")
    if mask.mode[0] == "I":
        return as_bytes(np.asarray(mask), path)
    if mask.mode not in ("L", "P", "1"):
        raise UserError(f"{path}: a mask of mode {mask.mode}; give a picture of labels, grey (L) or with a palette (P)")
    return np.asarray(mask, np.uint8)


def as_bytes(stored: npt.NDArray[Any], path: Path) -> Pixels:
    """Labels of 16 or 32 bits as bytes."""
    for label in (int(stored.min()), int(stored.max())):
        if not 0 <= label <= 255:
            raise UserError(f"{path}: label {label}, but labels are 0 to 255; write void as data.ignore_index")
    return stored.astype(np.uint8)


def as_codes(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """RGB triples [..., 3] as numbers [...]."""
    red, green, blue = np.moveaxis(colours.astype(np.int64), -1, 0)
    codes: npt.NDArray[np.int64] = red << 16 | green << 8 | blue
    return codes
