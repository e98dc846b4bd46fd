"""What only one process may do at a time: train in a folder, and make what several would share."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segmentation.errors import UserError

LOCK = ".lock"
log = logging.getLogger(__name__)


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold the folder until the block ends, or this process does, however it does.

    A lock of the operating system's, which a killed process cannot leave behind and workers do not inherit; over NFS it
    holds between machines too.

    Raises:
        UserError: while another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise UserError(f"{folder}: is being run by {file.read().strip()}; wait for it, or end it") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


@contextmanager
def turn(file: Path) -> Iterator[None]:
    """Wait until no other process is making this file: several runs of a sweep may begin together."""
    try:
        import fcntl
    except ImportError:  # not on Windows: there each makes it, and the last one stays
        yield
        return
    with file.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            log.info(f"{file}: another process is making it; waiting")
            fcntl.lockf(lock, fcntl.LOCK_EX)
        yield
