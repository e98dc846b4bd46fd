"""A job of a sweep as a program of its own."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from segmentation.cli import LAUNCHED
from segmentation.errors import UserError


def train_apart(overrides: list[str], folder: str) -> None:
    """A job that takes several processes.

    Lightning starts a run's other processes with the run's own command line, which in a sweep is the whole sweep's.

    Raises:
        UserError: if it failed.
        SystemExit: with its code, if it was told to stop.
    """
    command = [sys.executable, "-m", "segmentation.train", *overrides, f'hydra.run.dir="{folder}"']
    environment = {key: value for key, value in os.environ.items() if key not in LAUNCHED}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    with passing_on(process):
        errors = process.communicate()[1]
    sys.stderr.write(errors)
    if process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGINT):
        raise SystemExit(process.returncode)
    if process.returncode:
        said = [line for line in errors.splitlines() if line.strip()] or [f"exit code {process.returncode}"]
        raise UserError(said[-1].removeprefix("error: "))


@contextmanager
def passing_on(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Leave signals to a program that knows how to stop; Ctrl-C it gets from the terminal itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    signal.signal(signal.SIGINT, lambda number, _: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
