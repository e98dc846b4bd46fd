"""Whether there is a file to be read, and what to say where there is none; lists of files."""

import errno
import os
import unicodedata
from pathlib import Path

from segmentation.errors import UserError
from segmentation.faults import describe

CURE = "make it anew or leave it out"


def require_file(path: Path, role: str = "") -> None:
    """Raise a UserError unless this is a file; opening a pipe, for one, would wait for ever.

    Args:
        path: where it should be.
        role: what it is there for, said where it is missing.
    """
    if not is_text(str(path)):
        shown = str(path).encode("ascii", "backslashreplace").decode()
        raise UserError(f"{shown}: its name is not UTF-8, or holds control characters; rename it")
    try:
        if path.is_file():
            return
    except OSError as error:
        said = describe(error) or f"{path}: {error.strerror}; rename it, or move it where it can be read"
        raise UserError(said) from None
    if path.is_dir():
        raise UserError(f"{path}: a folder and not a file; {CURE}")
    if path.exists():
        raise UserError(f"{path}: a pipe or device and not a file; {CURE}")
    if path.is_symlink():
        raise UserError(f"{path}: a link to nothing; {CURE}")
    gone = describe(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)))  # with its whole folder
    raise UserError(gone or f"{path}: no such file{role}{alike(path)}")


def is_text(name: str) -> bool:
    """Whether a name holds no control characters, and nothing that is no Unicode."""
    return name.isprintable() or all(unicodedata.category(letter) not in ("Cc", "Cs") for letter in name)


def alike(path: Path) -> str:
    """What to say of a file whose name is the same but for case, or for how its accents are stored."""
    folder = path.parent
    same = [other for other in folder.iterdir() if plain(other) == plain(path)] if folder.is_dir() else []
    return f"; there is {same[0].name}, written otherwise: rename one of them" if same else ""


def plain(path: Path) -> str:
    """A name without the ways in which it can be written."""
    return unicodedata.normalize("NFC", path.name).casefold()


def read_list(file: Path) -> list[str]:
    """The lines of a list file, with or without the mark of UTF-8 at its beginning."""
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{file}: not UTF-8; save it as UTF-8") from None
