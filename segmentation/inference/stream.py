"""Images in, maps out: one after the other, whole in batches or each through its windows."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from segmentation.data.images import Pixels
from segmentation.errors import UserError, nearest
from segmentation.inference.outputs import Maps
from segmentation.inference.predictor import Predictor
from segmentation.inference.windows import Part
from segmentation.models.files import load_model

Named = tuple[Path, Pixels]


class Stream:
    """Turns named images [H, W, N] into what is kept of their predictions.

    Args:
        model: a run's folder, or a file of a model.
        accelerator: `cpu` for no GPU.
        trust: as in `load_model`.
        options: as in `PredictConfig`.
    """

    def __init__(self, model: str, *, accelerator: str, trust: bool, options: Mapping[str, Any]) -> None:
        network, self.meta = load_model(model, trust=trust)
        device = find_device(accelerator)
        self.predictor = Predictor(network, self.meta["size"], device, options)
        self.options = options

    def __call__(
        self, images: Iterable[Named], output: Path, begin: Callable[[int], object], seen: Callable[[int], object]
    ) -> Iterator[tuple[Path, Pixels, Maps]]:
        """Name, image and maps of every image, in order.

        Args:
            images: with their names below the output folder.
            output: that folder.
            begin: is told in how many pieces the next image is seen.
            seen: is told how many of them are done.
        """
        if self.predictor.windowed is None:
            yield from self._whole(images, output)
            return
        for name, image in images:
            begin(self.predictor.forwards(image))
            maps = self._maps(image, output, name)
            try:
                for part in self.predictor.parts(image, seen):
                    maps.add(part)
                yield name, image, maps
            except BaseException:
                maps.discard()
                raise

    def _whole(self, images: Iterable[Named], output: Path) -> Iterator[tuple[Path, Pixels, Maps]]:
        for _, alike in itertools.groupby(images, key=lambda item: item[1].shape):
            while batch := list(itertools.islice(alike, self.options["batch_size"])):
                found = self.predictor.batch([image for _, image in batch])
                for (name, image), probabilities in zip(batch, found, strict=True):
                    maps = self._maps(image, output, name)
                    maps.add(Part(0, 0, probabilities))
                    yield name, image, maps

    def _maps(self, image: Pixels, output: Path, name: Path) -> Maps:
        file = (output / "probabilities" / name).with_suffix(".npy") if self.options["probabilities"] else None
        shape = (image.shape[0], image.shape[1])
        return Maps(shape, len(self.meta["classes"]), file, self.options["uncertainty"])


def find_device(accelerator: str) -> torch.device:
    """The device of this name, `auto` a GPU where there is one; or a UserError."""
    there = torch.cuda.is_available()
    known = {"auto": "cuda" if there else "cpu", "cpu": "cpu"} | ({"gpu": "cuda", "cuda": "cuda"} if there else {})
    if accelerator not in known:
        raise UserError(f"accelerator={accelerator}: not on this machine; {nearest(accelerator, known)}")
    return torch.device(known[accelerator])
