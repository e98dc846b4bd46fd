"""Masks drawn from COCO's annotations: polygons and run lengths, by pycocotools."""

import copy
import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from segmentation.data.checks import check_samples
from segmentation.data.images import Pixels, White, read_with_peak
from segmentation.data.patterns import Pattern
from segmentation.data.reader import existing, fingerprint
from segmentation.data.samples import Sample
from segmentation.errors import UserError


class CocoReader:
    """Images with the objects of a JSON file drawn over each other, the largest first, so that none hides a smaller.

    Pixels of no object are of the class `background`, where there is one, else void; so are objects of a category
    that is no class. Crowds are void.

    Args:
        root: the data set's folder.
        split: stands for `{split}` in the pattern.
        listing: the JSON file below `root`.
        image: pattern of the image's path, whose `{name}` is the file name in the JSON.
        classes: the categories' names, and perhaps `background`.
        num_classes: as many.
        ignore_index: label of void pixels.
        channels: of an image, see `read_image`.
        white: likewise.
    """

    def __init__(
        self,
        *,
        root: str | None,
        split: str,
        listing: str,
        image: str,
        classes: Sequence[str],
        num_classes: int,
        ignore_index: int,
        channels: int = 3,
        white: White = None,
    ) -> None:
        self.root, self.split = existing(root), split
        self.channels, self.white = channels, white
        self.num_classes, self.void = num_classes, ignore_index
        self.file = self.root / listing
        content = read_annotations(self.file)
        labels = {name: label for label, name in enumerate(classes)}
        self.background = labels.get("background", ignore_index)
        self.label_of = {entry["id"]: labels.get(entry["name"]) for entry in content["categories"]}
        known = {"background", *(entry["name"] for entry in content["categories"])}
        if absent := [name for name in classes if name not in known]:
            raise UserError(f"data.classes: {self.file} has no category {absent[0]!r}")
        pattern = Pattern(self.root, image, split)
        self.images = {Path(entry["file_name"]).with_suffix("").as_posix(): entry for entry in content["images"]}
        self.paths = {name: pattern.fill(entry["file_name"]) for name, entry in self.images.items()}
        self.names = sorted(self.images)
        if len(self.images) < len(content["images"]):
            raise UserError(
                f"{self.file}: two images differ by their ending alone, or not at all; names must be unique"
            )
        self.objects: dict[int, list[dict[str, Any]]] = defaultdict(list)  # by image
        for entry in content["annotations"]:
            self.objects[entry["image_id"]].append(entry)

    @classmethod
    def exists(cls, *, root: str | None, listing: str | None, **_: Any) -> bool:
        """Whether the JSON file of the split is there."""
        if root is None or not Path(root).is_dir():
            return True  # unknown yet: reading it will say what is wrong
        return listing is not None and (Path(root) / listing).is_file()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        entry, (image, peak) = self.images[name], read_with_peak(self.paths[name], self.channels, self.white)
        if image.shape[:2] != (entry["height"], entry["width"]):
            height, width = image.shape[:2]
            raise UserError(f"{self.paths[name]}: {width}x{height}, but {self.file.name} says otherwise")
        mask = np.full(image.shape[:2], self.background, np.uint8)
        drawn = [(self.draw(found, entry["height"], entry["width"]), found) for found in self.objects[entry["id"]]]
        for pixels, found in sorted(drawn, key=lambda pair: -float(pair[1].get("area", pair[0].sum()))):
            label = self.label_of.get(found["category_id"])
            if label is None and self.background != self.void:
                continue
            mask[pixels] = self.void if label is None or found.get("iscrowd") else label
        return Sample(image, mask, name, peak)

    def draw(self, found: dict[str, Any], height: int, width: int) -> Pixels:
        """The pixels [H, W] of an object, as booleans."""
        from pycocotools import mask as runs

        shape = found["segmentation"]
        if not shape:
            raise UserError(f"{self.file}: annotation {found.get('id')} is a box without an outline; take it out")
        try:
            if isinstance(shape, list):
                shape = runs.merge(runs.frPyObjects(shape, height, width))
            elif isinstance(shape["counts"], list):
                shape = runs.frPyObjects(shape, height, width)
            drawn: Pixels = runs.decode(shape).astype(bool)
        except Exception as error:
            raise UserError(
                f"{self.file}: annotation {found.get('id')}: its segmentation cannot be drawn ({error})"
            ) from error
        if drawn.shape != (height, width):
            raise UserError(f"{self.file}: annotation {found.get('id')}: its run lengths are of another size")
        return drawn

    def image_file(self, index: int) -> Path | None:
        """Where the image of a sample lies."""
        return self.paths[self.names[index]]

    def mask_file(self, index: int) -> Path | None:
        """None: masks are drawn."""
        return None

    def select(self, indices: Sequence[int]) -> Self:
        """Some of the samples."""
        selected = copy.copy(self)
        selected.names = [self.names[index] for index in indices]
        return selected

    def check(self, seen: set[int] | None = None) -> None:
        """As `check_samples`."""
        check_samples(self, self.split, self.num_classes, seen)

    def files_hash(self) -> str:
        """SHA-256 over the image paths relative to `root`."""
        paths = (self.paths[name].relative_to(self.root).as_posix() for name in self.names)
        return hashlib.sha256("\n".join(paths).encode()).hexdigest()

    def fingerprint(self) -> str:
        """SHA-256 over the paths, sizes and times of change of all files, and over what is made of them."""
        rest = repr((self.label_of, self.background, self.void, self.channels, self.white)).encode()
        return fingerprint([self.file, *(self.paths[name] for name in self.names)], rest)


def read_annotations(file: Path) -> dict[str, Any]:
    """COCO's JSON, with its three lists."""
    try:
        import pycocotools.mask  # noqa: F401  # that it is missing is better known before an hour of reading
    except ImportError:
        raise UserError("data: COCO's annotations need pycocotools; pip install pycocotools") from None
    try:
        content: dict[str, Any] = json.loads(file.read_text())
        for key, needed in (
            ("images", {"id", "file_name", "height", "width"}),
            ("annotations", {"image_id", "category_id", "segmentation"}),
            ("categories", {"id", "name"}),
        ):
            for entry in content[key]:
                if missing := needed - set(entry):
                    raise UserError(f"{file}: an entry of {key} has no {sorted(missing)[0]!r}")
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; check data.root and data.splits") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not COCO's JSON of images, annotations and categories ({error})") from None
    return content
