"""Measuring in a process of its own: how the C library treats memory, and what it holds already, is a process's."""

import contextlib
import importlib
import multiprocessing
from typing import Any

from segmentation.errors import UserError


class Elsewhere:
    """A class built in a new process, whose methods are called from here; between two calls it waits.

    Args:
        kind: dotted path of the class.
        arguments: of the class.
    """

    def __init__(self, kind: str, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.ask, answer = context.Pipe()
        self.process = context.Process(target=serve, args=(answer, kind, arguments))
        self.process.start()
        answer.close()  # its end is the other process's, so that this one notices when it is gone

    def call(self, method: str) -> Any:
        """What the method returns.

        Raises:
            UserError: where the process has ended, by the system's hand.
        """
        try:
            self.ask.send(method)
            answer = self.ask.recv()
        except (EOFError, OSError):
            raise UserError(
                "benchmark: the process that was to be measured has ended; is there too little memory?"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):  # it has ended already
            self.ask.send(None)
        self.process.join()


def serve(connection: Any, kind: str, arguments: tuple[Any, ...]) -> None:
    """Build the class, and answer with what its method of the name asked for returns, or with what it raises, until
    asked for None. What building raises is the answer to everything.
    """
    module, _, name = kind.rpartition(".")
    built: Any = None
    failed: Exception | None = None
    try:
        built = getattr(importlib.import_module(module), name)(*arguments)
    except Exception as error:
        failed = error
    while (method := connection.recv()) is not None:
        try:
            connection.send(failed or getattr(built, method)())
        except Exception as error:
            connection.send(error)
