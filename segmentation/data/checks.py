"""What is looked at before a training begins: that every sample can be read, and that every class occurs."""

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from rich.progress import track

from segmentation.data.samples import Reader
from segmentation.errors import UserError

BINARY = "masks hold nothing but 0 and 255; if 255 is a class and not void, set data.reader.labels=[0,255]"
VOID = "no pixel has a class, all are void; see data.ignore_index and data.reader"
log = logging.getLogger(__name__)


def check_samples(reader: Reader, split: str, num_classes: int, seen: set[int] | None = None) -> None:
    """Read every sample in threads; warn of classes that no pixel has.

    Args:
        reader: of the split.
        split: its name.
        num_classes: labels are 0 ... num_classes - 1.
        seen: the labels that occur, where every sample has been read already.

    Raises:
        UserError: for the first sample that cannot be used, or if nothing can be learned or chosen by all of them.
    """

    def read(index: int) -> set[int]:
        return set(np.unique(reader[index].mask).tolist())

    if seen is None:
        seen = set()
        with ThreadPoolExecutor() as pool:
            labels = pool.map(read, range(len(reader)))
            seen.update(*track(labels, f"checking {split}", len(reader), transient=True))
    absent = [str(label) for label in range(num_classes) if label not in seen]
    if split in ("train", "val") and len(absent) == num_classes:
        raise UserError(f"data: {split}: {VOID}")
    if split == "train" and seen == {0, 255}:
        raise UserError(f"data: {split}: {BINARY}")
    if absent and split == "train":
        log.warning(
            f"data: no training pixel is of class {', '.join(absent)}; if masks store other labels, set "
            "data.reader.labels"
        )
    elif absent:
        log.warning(f"data: no pixel of {split} is of class {', '.join(absent)}, which its means leave out")
