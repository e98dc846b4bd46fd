"""The real commands in processes that can be killed: forked from one that has imported everything, so that they begin
at once.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.conftest import TINY

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["segmentation.train", "segmentation.callbacks", "segmentation.inspection", "segmentation.data.module",
     "segmentation.runfiles", "segmentation.trainer", "segmentation.choice", "segmentation.averaging",
     "segmentation.data.synthetic", "segmentation_models_pytorch", "torch.utils.tensorboard"]
)  # fmt: skip
# Dropout and drop path, so that a random state that is not restored shows; little else.
SMALL = (*TINY, "test=false", "logger=none", "data.splits={train:10,val:3,test:2}", "data.batch_size=2",
         "+backbone.args.drop_rate=0.2", "+backbone.args.drop_path_rate=0.2", "lstm=none")  # fmt: skip


def begin(
    *words: str,
    log: Path,
    module: str = "segmentation.train",
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[], None] | None = None,
) -> ForkServerProcess:
    """Start a command whose output goes to a file.

    Args:
        words: of the command line.
        log: stdout and stderr are added to it.
        module: of the command.
        environment: changes to it.
        prepare: called in the process before the command; a function of a test module.
    """
    process = CONTEXT.Process(target=command, args=(words, log, module, dict(environment or {}), prepare))
    process.start()
    return process


def run(*words: str, log: Path, **how: object) -> int:
    """As `begin`, and wait; the exit code, negative for a signal that killed it."""
    process = begin(*words, log=log, **how)  # type: ignore[arg-type]
    process.join(120)
    assert process.exitcode is not None, log.read_text()
    return process.exitcode


def command(
    words: Sequence[str], log: Path, module: str, environment: dict[str, str], prepare: Callable[[], None] | None
) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    os.environ.update(environment)
    sys.argv = [module, *words]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores Ctrl-C
    multiprocessing.set_start_method("fork", force=True)  # for workers: as the command has it from Python, not from us
    import torch

    torch.set_num_threads(1)  # of two cores others want one, and so small a network hardly gains
    if prepare is not None:
        prepare()
    sys.modules[module].main()
