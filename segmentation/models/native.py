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
# By its soname, libgomp is then the one that torch has loaded: the threads are shared.
FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp", "-shared", "-fPIC")

log = logging.getLogger(__name__)


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where they cannot be had: they are for x86-64, and need a C compiler with OpenMP.

    Built anew in every process that wants them, in under a second: so they fit its processor, also where a home is
    shared with others. The compiler is $CC, or the first of cc, gcc and clang; `CC=false` does without the kernels.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or list(filter(shutil.which, ("cc", "gcc", "clang")))[:1]
    if platform.machine() != "x86_64" or not compiler:
        log.info("Norms and ReLU run by torch's kernels: there is no C compiler here, or none for this machine")
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder) / "native.so"
            command = [*compiler, *FLAGS, *map(str, SOURCES), "-o", str(built)]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
            return ctypes.CDLL(str(built))
    except (OSError, subprocess.SubprocessError) as error:
        log.info("Norms and ReLU run by torch's kernels: %s cannot build others (%s)", compiler[0], error)
        return None


def suits(maps: Tensor) -> bool:
    """Whether the kernels are for these: on a CPU, in bfloat16, [B, C, H, W] and channels-last.

    Not where a graph is being recorded, which could not look into them.
    """
    if maps.device.type != "cpu" or maps.dtype != torch.bfloat16 or torch.compiler.is_compiling():
        return False
    real = type(maps) is Tensor and maps.ndim == 4 and maps.numel() > 0
    return real and maps.is_contiguous(memory_format=torch.channels_last) and library() is not None


def run(name: str, *arguments: Tensor | float | None) -> None:
    """Call a kernel on as many threads as torch has."""
    kernels = library()
    assert kernels is not None
    getattr(kernels, name)(*map(in_c, arguments), torch.get_num_threads())


def in_c(argument: Tensor | float | None) -> ctypes.c_void_p | ctypes.c_long | ctypes.c_float:
    """As the kernels take it."""
    if argument is None or isinstance(argument, Tensor):
        return ctypes.c_void_p(None if argument is None else argument.data_ptr())
    return ctypes.c_long(argument) if isinstance(argument, int) else ctypes.c_float(argument)
