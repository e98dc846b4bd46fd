"""What a report needs from the network itself, taken after the test: `analysis.npz`."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from rich.progress import track
from torch import Tensor

from segmentation.analysis.reach import influence
from segmentation.data.augment import resize_image
from segmentation.data.module import DataModule
from segmentation.evaluation import Evaluation
from segmentation.models.network import Network
from segmentation.models.spatial_lstm import SpatialLSTM
from segmentation.runfiles import data_of, spread, write_arrays

log = logging.getLogger(__name__)
DRAWN = 20  # positions along the longer side of the map on which a scan order is drawn


class Inspection(pl.Callback):
    """Effective receptive fields, and the scan's way over the map, in `analysis.npz`.

    - `field` [H, W], `slot_field` [h, w]: mean influence on the middle pixel, of the input and of the map before the
      LSTM, all images brought to `data.size`, or to the first one's
    - `cover`: the part of the map, down and across, that the image fills
    - `orders`, `sequences` and `steps` [orders, h', w']: where each scan meets each position; `drawn_*`: the same on a
      small map; `pooling`: h over h'

    Args:
        folder: where the file goes.
        images: how many of the test's, at even distances.
    """

    def __init__(self, folder: str, images: int) -> None:
        self.folder, self.images = Path(folder), images

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Evaluation)
        if trainer.is_global_zero and self.images > 0:
            try:
                arrays = inspect(pl_module.network, data_of(trainer), self.images, pl_module.device)
            except Exception as error:  # a part without gradients, memory that a backward pass exceeds: no run's end
                reason = " ".join(str(error).split())[:200]
                log.warning(f"analysis.npz left out: the network could not be inspected ({reason})")
                return
            write_arrays(self.folder / "analysis.npz", arrays)


def inspect(network: Network, data: DataModule, count: int, device: torch.device) -> dict[str, Any]:
    """The arrays of `analysis.npz`."""
    network.eval()
    reader = data.reader(data.test_split)
    size = list(data.size) if data.size else list(reader[0].image.shape[:2])
    total, chosen = None, spread(len(reader), count)
    for index in track(chosen, "receptive field", transient=True):
        pixels = torch.from_numpy(np.ascontiguousarray(resize_image(reader[index].image, size).transpose(2, 0, 1)))
        found = influence(network, network.lstm, pixels[None].to(device) / 255)
        total = found if total is None else type(found)(*(a + b for a, b in zip(total, found, strict=True)))
    assert total is not None
    padded = network.pad(torch.zeros(1, network.channels, *size)).shape[-2:]
    arrays = {"field": as_array(total.image / len(chosen)), "slot_field": as_array(total.slot / len(chosen))}
    arrays["cover"] = np.array([side / whole for side, whole in zip(size, padded, strict=True)])
    if isinstance(network.lstm, SpatialLSTM):
        arrays |= scan_maps(network.lstm, *total.slot.shape)
    return arrays


def scan_maps(lstm: SpatialLSTM, height: int, width: int) -> dict[str, Any]:
    """How each of the LSTM's orders goes over a map [height, width], pooled as the LSTM pools it."""
    pooled = [-(-side // lstm.pooling) for side in (height, width)]
    scale = min(1.0, DRAWN / max(pooled))
    drawn = [max(2, round(side * scale)) for side in pooled]
    arrays: dict[str, Any] = {"orders": np.array(lstm.orders), "pooling": np.array(lstm.pooling)}
    for prefix, size in (("", pooled), ("drawn_", drawn)):
        layouts = [scan.layout(*size) for scan in lstm.scans]  # type: ignore[operator]
        arrays[f"{prefix}sequences"] = np.stack([layout.sequences.numpy() for layout in layouts])
        arrays[f"{prefix}steps"] = np.stack([layout.steps.numpy() for layout in layouts])
    return arrays


def as_array(values: Tensor) -> Any:
    return values.cpu().numpy()
