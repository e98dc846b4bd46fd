"""Patterns of paths below a data set's folder, such as `{split}/images/{name}.*`; `*` stands for anything."""

import re
from pathlib import Path, PurePosixPath

from segmentation.errors import UserError


class Pattern:
    """One pattern, for one split.

    Args:
        root: the data set's folder, out of which no path leads.
        pattern: relative to it.
        split: stands for `{split}`.
    """

    def __init__(self, root: Path, pattern: str, split: str) -> None:
        self.root = root
        self.text = pattern.replace("{split}", split)
        if "{name}" not in self.text:
            self.expression = re.compile("(?!)")  # all samples share a file: no path says which sample it is
        else:
            before, _, after = (re.escape(part).replace(r"\*", "[^/]*") for part in self.text.partition("{name}"))
            self.expression = re.compile(f"{before}(.+){after}")

    def fill(self, name: str) -> Path:
        """The path of the sample of this name; where `*` leaves a choice, the first of those that are there."""
        path = self.text.replace("{name}", name)
        if "*" not in path:
            return inside(self.root, path, self.root)
        if ".." in PurePosixPath(path).parts or PurePosixPath(path).is_absolute():
            raise UserError(f"{self.root}: {path} leads out of it; paths must be relative to data.root")
        return next(iter(sorted(self.root.glob(path))), self.root / path)

    def name(self, path: str) -> str:
        """What `{name}` stands for in a path; its stem where the pattern does not fit."""
        match = self.expression.fullmatch(path)
        return match[1] if match else PurePosixPath(path).stem

    def find(self) -> list[tuple[str, Path]]:
        """Name and path of all that fit, in order."""
        paths = sorted(self.root.glob(self.text.replace("{name}", "*")))
        matches = [(self.expression.fullmatch(path.relative_to(self.root).as_posix()), path) for path in paths]
        return [(match[1], path) for match, path in matches if match]


def inside(root: Path, path: str, source: Path) -> Path:
    """A path below the data set's folder. In published lists it often begins where the list's author had the folder
    (`/SegNet/CamVid/train/...`): what of such a path is there counts.

    Raises:
        UserError: for a path that leads elsewhere; `source` is what names it.
    """
    parts = PurePosixPath(path).parts
    if ".." not in parts:
        if parts[:1] != ("/",):
            return root / path
        for start in range(1, len(parts)):
            if (found := root.joinpath(*parts[start:])).exists():
                return found
    raise UserError(f"{source}: {path} leads out of {root}; paths must be relative to data.root")
