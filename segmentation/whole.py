"""Files that are there whole or not at all: written under another name in the same folder, then renamed."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` once its content is on the disk; until then what stood there stays.

    A killed process leaves the other name behind; the next one to write the file takes it over.

    Raises:
        OSError: with the file's name, if the disk refuses.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        sync(partial)
        partial.replace(path)
    except BaseException as error:
        remove(partial)  # a full disk wants the room
        if isinstance(error, OSError) and error.filename in (None, partial, str(partial)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network drives cannot, and need not
            raise
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file if that can be done."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
