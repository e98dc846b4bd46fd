"""This project's kernels in C, for layers that torch's own keep waiting for memory on CPUs (docs/benchmark.md)."""

import ctypes
import functools
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

SOURCES = sorted((Path(__file__).parent / "kernels").glob("*.c"))
# gcc's OpenMP is libgomp, and by its soname the one that torch has loaded: the threads are shared. clang's is another.
FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp", "-shared", "-fPIC")

log = logging.getLogger(__name__)


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where they cannot be had: they are for x86-64, and need a C compiler with OpenMP.

    Built anew in every process that wants them, in under a second: so they fit its processor, also where a home is
    shared with others. The compiler is $CC, or cc or gcc; `CC=false` does without the kernels.
    """
    try:
        return build()
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip() or f"status {error.returncode}"
        reason = f"{error.cmd[0]}: {words.splitlines()[-1]}"
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        reason = str(error)
    log.info("Norms and ReLU on CPUs run by torch's kernels, not by this project's, which are faster: %s", reason)
    return None


def build() -> ctypes.CDLL:
    """Compile and load them; what is in the way is raised as an OSError, a ValueError or a SubprocessError."""
    if platform.machine() != "x86_64":
        raise OSError(f"they are for x86-64, not for {platform.machine()}")
    compiler = shlex.split(os.environ.get("CC", "")) or list(filter(shutil.which, ("cc", "gcc")))[:1]
    if not compiler:
        raise OSError("there is no C compiler; install gcc")
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "native.so"
        command = [*compiler, *FLAGS, *map(str, SOURCES), "-o", str(built)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return ctypes.CDLL(str(built))


def suits(maps: Tensor) -> bool:
    """Whether the kernels are for these: on a CPU, in bfloat16, [B, C, H, W] and channels-last.

    Not where a graph is being recorded, which could not look into them.
    """
    if maps.device.type != "cpu" or maps.dtype != torch.bfloat16:
        return False
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    real = type(maps) is Tensor and maps.ndim == 4 and maps.numel() > 0
    return real and maps.is_contiguous(memory_format=torch.channels_last) and library() is not None


def run(name: str, *arguments: Tensor | float | None) -> None:
    """Call a kernel: with a pointer for a tensor or None, an integer for an int or a bool, and a float."""
    kernels = library()
    assert kernels is not None
    getattr(kernels, name)(*map(in_c, arguments))


def in_c(argument: Tensor | float | None) -> ctypes.c_void_p | ctypes.c_long | ctypes.c_float:
    """As the kernels take it."""
    if argument is None or isinstance(argument, Tensor):
        return ctypes.c_void_p(None if argument is None else argument.data_ptr())
    return ctypes.c_long(argument) if isinstance(argument, int) else ctypes.c_float(argument)
