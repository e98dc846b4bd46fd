"""Patterns of paths below a data set's folder, such as `{split}/images/{name}.*`; `*` stands for anything."""

import errno
import glob
import os
import re
from collections.abc import Iterator
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
        if not PurePosixPath(self.text).name:
            raise UserError(
                f"data.reader: the pattern {pattern!r} names no file; such as {{split}}/images/{{name}}.png"
            )
        if "{name}" not in self.text:
            self.expression = re.compile("(?!)")  # all samples share a file: no path says which sample it is
        else:
            before, _, after = (re.escape(part).replace(r"\*", "[^/]*") for part in self.text.partition("{name}"))
            self.expression = re.compile(f"{before}(.+){after}")

    def fill(self, name: str) -> Path:
        """The path of the sample of this name: where `*` leaves a choice, that which is there.

        Raises:
            UserError: if it leads out of the folder, or several are there.
        """
        path = inside(self.root, self.text.replace("{name}", name), self.root)
        if "*" not in self.text:
            return path
        first, *others = sorted(self.root.glob(self.text.replace("{name}", glob.escape(name)))) or [path]
        if others:
            raise UserError(f"{first} and {others[0]}: both fit {self.text}; leave one, or mend the pattern")
        return first

    def name(self, path: str) -> str:
        """What `{name}` stands for in a path; its stem where the pattern does not fit."""
        match = self.expression.fullmatch(path)
        return match[1] if match else PurePosixPath(path).stem

    def find(self) -> list[tuple[str, Path]]:
        """Name and path of all that fit, in order.

        Raises:
            UserError: for a file whose name fits but for its case, such as `.PNG` where the pattern says `.png`.
            PermissionError: for a folder that may not be read, which `glob` would leave out in silence.
        """
        folder, _, last = self.text.replace("{name}", "*").rpartition("/")
        for inner in self.searched():
            if inner.is_dir() and not os.access(inner, os.R_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(inner))
        any_case = re.sub("[a-zA-Z]", lambda letter: f"[{letter[0].lower()}{letter[0].upper()}]", last)
        found = []
        for path in sorted(self.root.glob(f"{folder}/{any_case}".lstrip("/"))):
            place = path.relative_to(self.root).as_posix()
            if match := self.expression.fullmatch(place):
                found.append((match[1], path))
            elif re.fullmatch(self.expression.pattern, place, re.IGNORECASE):
                raise UserError(
                    f"{path}: fits {self.text} but for upper and lower case; rename it, or mend the pattern"
                )
        return found

    def searched(self) -> Iterator[Path]:
        """The folders in which a part of the pattern leaves a choice."""
        parts = self.text.replace("{name}", "*").lstrip("/").split("/")
        for depth, part in enumerate(parts):
            if "*" in part or depth == len(parts) - 1:
                yield from self.root.glob("/".join(parts[:depth])) if depth else (self.root,)


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
