"""Whether a GPU takes this project's Triton kernels, asked once for each kernel and card."""

import functools
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec

import torch


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch leaves it untyped
def usable(kernel: str, device: torch.device, size: int) -> bool:
    """Whether a kernel can be built for a device, and computes there what it should.

    Args:
        kernel: a module here, with `check(device, size)`, which raises where the kernel computes something else, and
            `CAPABILITY`, the oldest cards that it is for.
        device: where it shall run.
        size: of the state.
    """
    return try_out(kernel, device, size)


@functools.cache
def try_out(kernel: str, device: torch.device, size: int) -> bool:
    """The same, found out once: Triton needs a C compiler, and a card that it knows."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    try:
        module = import_module(f"segmentation.models.{kernel}")
        if torch.cuda.get_device_capability(device) < module.CAPABILITY:
            return False
        # In a thread of its own: what records, counts or repeats the operations of this one must not see the check's,
        # nor do its autocast and inference mode hold there.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(module.check, device, size).result()
    except torch.OutOfMemoryError:
        raise  # says nothing of the kernel, and is not remembered
    except AssertionError:
        reason = "it computes something else on this card; please report it"
    except Exception as error:  # each thing that can be missing raises what it likes
        lines = str(error).strip().splitlines() or [""]
        reason = (
            "it needs gcc, Python's headers and a card with the memory for it on its chip "
            f"({type(error).__name__}: {lines[0]})"
        )
    else:
        return True
    warnings.warn(f"lstm.cell: scanning without the Triton kernel, so slower: {reason}", stacklevel=2)
    return False
