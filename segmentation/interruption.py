"""A run that is told to stop: it ends the batch, saves, says where, and leaves with the usual exit code.

Lightning takes SIGTERM to itself, to stop without saving, and answers Slurm inside the signal's handler, where the
optimizer may be halfway through a step. Here a handler only makes a note, which is read between two batches.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.trainer.states import TrainerFn

from segmentation.checkpoints import LAST
from segmentation.slurm import AGAIN, mark, requeue

Handler = Callable[[int, FrameType | None], Any] | int | None
STOP = ("SIGTERM", "SIGINT")


class Stopped(SystemExit):
    """The end of a run that was told to stop; its code is the process's."""


class Interruption(pl.callbacks.Checkpoint):
    """Stops between two batches when told to. As a checkpoint Lightning calls it after all others.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.received: int | None = None
        self.place = ""  # in the run, of the stop
        self.first = True  # of the run's processes
        self.before: dict[int, Handler] = {}  # who handled the signals until now

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals; afterwards hand them back, and one that asks for a new start on to whoever gives one.

        Raises:
            Stopped: if one came.
        """
        if threading.current_thread() is not threading.main_thread():  # only there Python lets signals be taken
            yield
            return
        chosen = [signal.Signals[name] for name in (*STOP, *AGAIN) if hasattr(signal, name)]
        self.before = {number: signal.getsignal(number) for number in chosen}
        self.listen()
        try:
            yield
        except SystemExit:
            if self.received is None:
                raise
        finally:
            for number, handler in self.before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self.received is not None:
            self.leave(self.received)

    def listen(self) -> None:
        """Handle what is ours, and leave the rest to whoever handled it before Lightning did."""
        for number, handler in self.before.items():
            signal.signal(number, self.note if ours(number, handler) else handler or signal.SIG_DFL)

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler of all signals; a second Ctrl-C does not wait."""
        if number == signal.SIGINT == self.received:
            self.place = " at once, without saving"
            raise Stopped
        if number == signal.SIGINT:
            say("stopping after this batch; Ctrl-C again stops at once, without saving")
        self.received = number

    def leave(self, number: int) -> None:
        """Say where it stopped, and end the process; one that Slurm stopped asks to be started again."""
        last = self.folder / LAST
        advice = f"go on from {last} by ckpt=auto hydra.run.dir={self.folder}" if last.is_file() else "nothing is saved"
        if self.first:
            say(f"stopped by {signal.Signals(number).name}{self.place}; {advice}")
        if self.first and signal.Signals(number).name in AGAIN:
            mark(self.folder)
            handler = self.before[number]
            if callable(handler):
                handler(number, None)  # submitit's, which leaves as well
            else:
                requeue()
        raise Stopped(128 + number if self.first else 0)  # Lightning kills the first process when another one fails

    # Lightning takes SIGTERM when it begins; these hooks come after that.
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.listen()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.listen()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        batches = trainer.fit_loop.epoch_loop.batch_progress
        if batches.is_last_batch or batches.current.ready % trainer.accumulate_grad_batches == 0:
            self.stop(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.world_size == 1:  # of several processes some have a batch more than others, and could not agree here
            self.stop(trainer)

    def on_test_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.world_size == 1:
            self.stop(trainer)

    def stop(self, trainer: pl.Trainer) -> None:
        """Leave the Trainer if any process was told to; all of them leave here, since they save together."""
        told = self.received is not None
        if trainer.world_size > 1:
            told = trainer.strategy.reduce_boolean_decision(told, all=False)
        if told:
            self.received, self.first = self.received or signal.SIGTERM, trainer.is_global_zero
            raise Stopped

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, Stopped) or self.place:
            return
        self.place = " in the test"
        if trainer.state.fn is TrainerFn.FITTING:
            trainer.save_checkpoint(self.folder / LAST)
            self.place = f" in epoch {trainer.current_epoch}, after step {trainer.global_step}"


def ours(number: int, handler: Handler) -> bool:
    """Whether to take a signal: one to stop unless somebody ignores it, one to start again where somebody does that."""
    name = signal.Signals(number).name
    if name == "SIGINT":
        return handler is signal.default_int_handler
    if name == "SIGTERM":
        return handler in (None, signal.SIG_DFL)
    return callable(handler) or SLURMEnvironment.detect()


def say(line: str) -> None:
    """A line for the user, safe in a signal's handler."""
    os.write(2, f"{line}\n".encode())
