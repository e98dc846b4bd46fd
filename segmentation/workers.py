"""What a loading worker does with signals.

A terminal's Ctrl-C, Slurm, systemd and `timeout` signal every process of a run. A worker that ended by it would end the
training in the middle of a step; so the training answers alone, and its workers end when it does.
"""

import os
import signal
from types import FrameType

from segmentation.slurm import AGAIN


def leave_signals_to_parent() -> None:
    """In a worker: ignore what stops a run, but for a second SIGTERM, which is how a stuck worker is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in AGAIN:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, heed_the_next)


def heed_the_next(number: int, frame: FrameType | None) -> None:
    signal.signal(number, lambda number, frame: os._exit(128 + number))
