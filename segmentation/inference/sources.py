"""What a prediction is asked for: an image, a folder, a glob, a video; and how the outputs are called."""

import glob
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2

from segmentation.data.files import require_file
from segmentation.data.images import Pixels
from segmentation.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".npy"}
OWN = ("overlays", "uncertainty", "probabilities")  # folders beside the masks
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}


def find_images(source: str, output: Path) -> tuple[Path, list[Path]]:
    """The folder that names are taken from, and the images: one, those below a folder, or those that fit a glob; never
    those that an earlier prediction left in the output folder.
    """
    path = Path(source)
    if not path.is_dir() and (path.exists() or path.is_symlink()):
        require_file(path)
        return path.parent, [path]
    if path.is_dir():
        root = path
        found = root.rglob("*")
    elif glob.has_magic(source):
        fixed = next(place for place, part in enumerate(path.parts) if glob.has_magic(part))
        root = Path(*path.parts[:fixed])
        if ".." in path.parts[fixed:]:
            raise UserError(f"input={source}: .. after a wildcard would lead the masks out of the output folder")
        found = root.glob(str(Path(*path.parts[fixed:])))
    else:
        raise UserError(f"input={source}: no such file or folder")
    inside = output.resolve() != root.resolve() and output.resolve().is_relative_to(root.resolve())
    wanted = (
        path
        for path in found
        if path.suffix.lower() in SUFFIXES
        and not path.is_dir()
        and not (inside and path.resolve().is_relative_to(output.resolve()))
    )
    paths = sorted(wanted, key=in_order)
    if not paths:
        raise UserError(f"input={source}: no image in it; their names end in {', '.join(sorted(SUFFIXES))}")
    for path in paths:
        require_file(path)
    return root, paths


def in_order(path: Path) -> list[tuple[int, str]]:
    """Sorts by numbers where names have them: frame 2 comes before frame 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def name_outputs(paths: list[Path], root: Path) -> dict[Path, Path]:
    """Where each mask goes below the output folder: its place as a .png, by its whole name where two would clash."""
    relative = {path: path.relative_to(root) for path in paths}
    taken = [place for place in relative.values() if place.parts[0] in OWN]
    if taken:
        raise UserError(f"input: {root / taken[0].parts[0]}: a folder of this name is written to; rename it")
    count = Counter(path.with_suffix("") for path in relative.values())
    return {
        path: place.with_suffix(".png") if count[place.with_suffix("")] == 1 else place.with_name(f"{place.name}.png")
        for path, place in relative.items()
    }


class Video:
    """A video file's frames.

    Attributes:
        fps: frames a second.
        count: of frames, as the file says; some formats do not know.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        capture = cv2.VideoCapture(str(path))
        if not capture.isOpened():
            raise UserError(f"input={path}: cannot be read as a video")
        self.fps = capture.get(cv2.CAP_PROP_FPS) or 25.0
        self.count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        capture.release()

    def __iter__(self) -> Iterator[Pixels]:
        capture = cv2.VideoCapture(str(self.path))
        try:
            while True:
                there, frame = capture.read()
                if not there:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).astype("uint8", copy=False)
        finally:
            capture.release()
