"""What the commands of the tests are given: a tiny model in a run's folder, its data, and a picture."""

from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from PIL import Image

from segmentation.config import CONF, DataConfig
from segmentation.data.scenes import CLASSES
from tests import settings


def make_world(folder: Path) -> None:
    """`model`, as a run on three scenes leaves it, the folder `in` with a picture, and the data set `files`."""
    settings.saved(folder / "model", size=[32, 48], classes=CLASSES, lstm__hidden_size=4)
    data = OmegaConf.merge(OmegaConf.structured(DataConfig), OmegaConf.load(CONF / "data" / "synthetic.yaml"))
    data.size, data.splits = [32, 48], {"train": 4, "val": 1, "test": 3}
    (folder / "model" / ".hydra").mkdir()
    OmegaConf.save({"seed": 0, "data": data}, folder / "model" / ".hydra" / "config.yaml")
    (folder / "in").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "in" / "picture.png")
    write_files(folder / "files")


def write_files(root: Path) -> None:
    """A data set of the scenes' classes, named after two videos, as `data=folder` reads it, with a list."""
    rng = np.random.default_rng(1)
    for split, count in (("train", 4), ("val", 1), ("test", 2)):
        for index in range(count):
            image, mask = rng.integers(0, 256, (40, 56, 3), np.uint8), rng.integers(0, len(CLASSES), (40, 56), np.uint8)
            for kind, pixels in (("images", image), ("masks", mask)):
                path = root / split / kind / f"v{index % 2}_{split}{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    (root / "train.txt").write_text("".join(f"v{index % 2}_train{index}\n" for index in range(4)))
