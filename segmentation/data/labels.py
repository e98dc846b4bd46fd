"""From the labels that mask files store to class indices."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from segmentation.errors import UserError

Pixels = npt.NDArray[np.uint8]
Table = npt.NDArray[np.int16]
UNKNOWN = -1  # in a table: a label that means nothing


class Labels:
    """What stored labels mean: a pixel of a one-channel mask is a label, and an RGB one stores the label 0xRRGGBB.

    Args:
        colours: an RGB triple for each class.
        ignore_index: of void pixels, in the result and, unless `label_map` says otherwise, in one-channel masks.
        label_map: stored label to class index, or to null for void. Without one, labels are class indices, and colours
            are those of the classes.
    """

    def __init__(
        self, colours: Sequence[Sequence[int]], ignore_index: int, label_map: Mapping[int, int | None] | None = None
    ) -> None:
        if label_map is None:
            self._colours = {int(pack(np.asarray(colour))): label for label, colour in enumerate(colours)}
            self._indices = {label: label for label in range(len(colours))} | {ignore_index: ignore_index}
        else:
            for stored, label in label_map.items():
                check_entry(stored, label, len(colours))
            self._colours = {stored: ignore_index if label is None else label for stored, label in label_map.items()}
            self._indices = {ignore_index: ignore_index} | self._colours

    def decode(self, stored: npt.NDArray[np.integer]) -> Pixels:
        """Class indices uint8 [H, W] of a mask file's pixels, integers [H, W] or RGB uint8 [H, W, 3].

        Raises:
            ValueError: with the first label that means nothing.
        """
        coloured = stored.ndim == 3
        stored = pack(stored) if coloured else stored
        mask = (self._colour_table if coloured else self._index_table).take(stored, mode="clip")
        if mask.min(initial=0) == UNKNOWN:
            first = int(stored[mask == UNKNOWN][0])
            raise ValueError(f"{f'colour 0x{first:06x}' if coloured else f'label {first}'} is not one of the classes")
        return mask.astype(np.uint8)

    @cached_property
    def _index_table(self) -> Table:
        return tabulate(self._indices, bits=16)

    @cached_property
    def _colour_table(self) -> Table:  # 32 MiB, so not before a mask with colours turns up
        return tabulate(self._colours, bits=24)


def check_entry(stored: int, label: int | None, num_classes: int) -> None:
    """Raise a UserError for an entry of `label_map` that cannot be meant."""
    if not (isinstance(stored, int) and 0 <= stored < 1 << 24):
        raise UserError(f"data.reader.label_map: {stored!r} is no stored label; write an index, or a colour as 0xRRGGBB")
    if label is not None and label not in range(num_classes):
        raise UserError(f"data.reader.label_map: {stored} maps to {label}, but classes are 0...{num_classes - 1}, or null")


def pack(colours: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """RGB [..., 3] to 0xRRGGBB [...]."""
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def tabulate(meaning: Mapping[int, int], bits: int) -> Table:
    """The class index for each label of that many bits, and at the end `UNKNOWN` for all larger ones."""
    table = np.full((1 << bits) + 1, UNKNOWN, np.int16)
    known = {stored: label for stored, label in meaning.items() if stored < 1 << bits}
    table[list(known)] = list(known.values())
    return table
