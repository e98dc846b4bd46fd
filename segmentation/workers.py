"""What a loading worker does with signals, and with a training that ends in the middle of a word.

A terminal's Ctrl-C, Slurm, systemd and `timeout` signal every process of a run. A worker that ended by it would end the
training in the middle of a step; so the training answers alone, and its workers end when it does or when it ends them.
"""

import multiprocessing
import os
import signal
import sys
import threading
from types import FrameType, TracebackType

from segmentation.slurm import AGAIN


def leave_signals_to_parent() -> None:
    """In a worker: ignore what stops a run, but for a SIGTERM of the training's own, which is how it ends workers."""
    sys.excepthook = say_nothing_of_hanging_up
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in AGAIN:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent = multiprocessing.parent_process()  # not the process that forks, where that is another
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=heed, args=(parent.pid if parent else os.getppid(),), daemon=True).start()
    else:  # macOS does not say who sent a signal
        signal.signal(signal.SIGTERM, heed_the_next)


def say_nothing_of_hanging_up(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """In a worker, in the place of `sys.excepthook`: a training that ends while it fetches a batch hangs up, which is
    no fault of the worker's; why it ended it says itself.
    """
    if not issubclass(kind, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


def heed(parent: int) -> None:
    """Wait for a SIGTERM of this process, and end by it. In a thread, so that it also ends what is stuck elsewhere."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)  # torch takes any other code for a worker that failed


def heed_the_next(number: int, frame: FrameType | None) -> None:
    signal.signal(number, lambda number, frame: os._exit(0))
