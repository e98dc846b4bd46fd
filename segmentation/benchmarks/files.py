"""The samples as files, for a peer that knows nothing of readers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segmentation.data.module import DataModule
from segmentation.data.reader import FileReader
from segmentation.errors import UserError


def sample_files(settings: Mapping[str, Any], split: str) -> list[tuple[Path, Path]]:
    """Paths of image and mask of every sample of a split.

    A data set that is not read from files must have been drawn by `on_disk` before.

    Raises:
        UserError: where masks hold something else than class indices, or images something else than RGB.
    """
    data = DataModule(settings["data"], {}, 0)
    if data.channels != 3 or data.white is not None:
        raise UserError("data: the benchmark's peer reads RGB of 8 bits; leave out data.channels and data.white")
    reader = data.reader(split)
    assert isinstance(reader, FileReader)
    table = getattr(reader.labels, "table", None)
    if table is None or (table[: reader.num_classes] != np.arange(reader.num_classes)).any():
        raise UserError(
            f"data={settings['data']['name']}: its masks are mapped to classes, and the benchmark's peer reads class "
            "indices alone; choose another data set"
        )
    return list(reader.paths.values())


def on_disk(settings: Mapping[str, Any], folder: Path, *, count: int = 512) -> dict[str, Any]:
    """The settings, with samples that were not read from files written as PNGs, `count` of each split at most."""
    data = DataModule(settings["data"], {}, 0)
    if isinstance(data.reader("train"), FileReader):
        return dict(settings)
    for split in ("train", "val"):
        reader = data.reader(split)
        for index in range(min(count, len(reader))):
            sample = reader[index]
            for kind, pixels in (("images", sample.image), ("masks", sample.mask)):
                path = folder / "samples" / split / kind / f"{sample.name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    reader_settings = {
        "_target_": "segmentation.data.reader.FileReader",
        "image": "{split}/images/{name}.png",
        "mask": "{split}/masks/{name}.png",
    }
    # A cache of its own, gone with the folder: the user's would make room for what nobody reads again.
    places: dict[str, Any] = {"cache": str(folder / "cache")} if settings["data"]["cache"] == "auto" else {}
    places |= {"root": str(folder / "samples"), "reader": reader_settings, "splits": {"train": None, "val": None}}
    return {**settings, "data": {**settings["data"], **places}}
