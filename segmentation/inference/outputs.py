"""What a prediction leaves: masks, overlays, probabilities, uncertainty, and videos."""

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from segmentation.analysis.pictures import overlay, save_image, save_mask, save_picture
from segmentation.data.images import Pixels
from segmentation.errors import UserError
from segmentation.inference.windows import Part

GREYS = np.arange(256, dtype=np.uint8)[:, None]
VIRIDIS = np.asarray(cv2.applyColorMap(GREYS, cv2.COLORMAP_VIRIDIS), np.uint8)[:, 0, ::-1]


class Maps:
    """What is kept of an image's probabilities while they come in parts.

    Args:
        shape: height and width of the image.
        classes: how many.
        probabilities: file for all of them, float16 [C, H, W] as NumPy stores it; None for none.
        uncertainty: whether to keep it.
    """

    def __init__(self, shape: tuple[int, int], classes: int, probabilities: Path | None, uncertainty: bool) -> None:
        self.mask = np.zeros(shape, np.uint8)
        self.uncertainty = np.zeros(shape, np.uint8) if uncertainty else None
        self.file = probabilities
        self.probabilities: npt.NDArray[Any] | None = None
        if probabilities is not None:  # written to the disk as it comes, since it may be larger than the memory
            probabilities.parent.mkdir(parents=True, exist_ok=True)
            self.probabilities = np.lib.format.open_memmap(
                self._partial(probabilities), mode="w+", dtype=np.float16, shape=(classes, *shape)
            )

    @staticmethod
    def _partial(file: Path) -> Path:
        return file.with_name(f"{file.name}.partial")

    def discard(self) -> None:
        """Leave nothing of what was begun."""
        if self.file is not None:
            self.probabilities = None
            self._partial(self.file).unlink(missing_ok=True)

    def add(self, part: Part) -> None:
        """Take a part in."""
        height, width = part.probabilities.shape[1:]
        place = np.s_[part.top : part.top + height, part.left : part.left + width]
        self.mask[place] = part.probabilities.argmax(0).to(torch.uint8).cpu().numpy()
        if self.uncertainty is not None:
            self.uncertainty[place] = (255 * entropy(part.probabilities)).round().to(torch.uint8).cpu().numpy()
        if self.probabilities is not None:
            self.probabilities[(slice(None), *place)] = part.probabilities.half().cpu().numpy()

    def write(self, folder: Path, name: Path, image: Pixels, colours: Sequence[Sequence[int]]) -> Path:
        """Write the mask, the overlay on an RGB image [H, W, 3] and what else is kept, and return the mask's path; the
        mask comes last.
        """
        try:
            return self._write(folder, name, image, colours)
        except BaseException:
            self.discard()
            raise

    def _write(self, folder: Path, name: Path, image: Pixels, colours: Sequence[Sequence[int]]) -> Path:
        save_image(folder / "overlays" / name, overlay(image, self.mask, colours))
        if self.uncertainty is not None:
            save_map(folder / "uncertainty" / name, self.uncertainty)
        if self.probabilities is not None and self.file is not None:
            self.probabilities.flush()  # type: ignore[attr-defined]  # a memory map's
            self.probabilities = None
            self._partial(self.file).replace(self.file)
        save_mask(folder / name, self.mask, colours)
        return folder / name


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy [H, W] of probabilities [C, H, W] over its greatest value: 0 where one class is certain, 1 where all are
    as likely.
    """
    found: Tensor = torch.special.entr(probabilities).sum(0)
    return found.div(math.log(len(probabilities))).clamp(0, 1)


def save_map(path: Path, values: Pixels) -> None:
    """Write bytes [H, W] as a palette PNG: the bytes to a program, viridis to an eye."""
    picture = Image.fromarray(values)
    picture.putpalette(VIRIDIS.tobytes())
    save_picture(path, picture)


class VideoFile:
    """An MP4 that frames of one size are added to; it takes its name when it is complete.

    Args:
        path: of the video.
        fps: frames a second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, fps
        self.partial = path.with_name(f"{path.stem}.partial.mp4")
        self.writer: cv2.VideoWriter | None = None
        self.count = 0  # frames so far

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def add(self, frame: Pixels) -> None:
        """Add an RGB frame [H, W, 3]; one of another size than the first is brought to it."""
        height, width = frame.shape[:2]
        if self.writer is None:
            self.size = (width, height)
            self.writer = cv2.VideoWriter(str(self.partial), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, self.size)
            if not self.writer.isOpened():
                raise UserError(f"output={self.path}: OpenCV cannot write this video")
        if (width, height) != self.size:
            frame = cv2.resize(frame, self.size).astype(np.uint8)
        self.count += 1
        self.writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self.writer is not None:
            self.writer.release()
            if kind is None:
                self.partial.replace(self.path)
            else:
                self.partial.unlink(missing_ok=True)
