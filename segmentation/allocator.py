"""Memory that a CPU training frees, kept for the next step instead of handed back to the kernel and asked for anew."""

import ctypes

# Parameters of mallopt(3), as glibc numbers them.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
# glibc serves every block above a threshold of at most 32 MiB from the kernel, which zeroes its pages one fault at a
# time, and returns it when it is freed. A step of ResNet50 at 352x480 and batch 8 took half a million page faults, and
# 1.4 times as long as without them (docs/benchmark.md).
KEEP = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1}


def keep_freed_memory() -> bool:
    """Have this process keep freed blocks of any size, from now on.

    Returns:
        Whether that could be done: the C library must be glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError, OSError):  # another libc, macOS, Windows
        return False
    done = [mallopt(*setting) == 1 for setting in KEEP.items()]
    return all(done)


def release_freed_memory() -> None:
    """Give the kernel all that is free, so that what earlier work left does not count as that of the next."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, TypeError, OSError):
        return
