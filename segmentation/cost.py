"""Measure what the networks of a report cost: parameters, multiply-adds, latency, throughput and peak memory."""

import ctypes
import functools
import gc
import platform
import re
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import Progress
from torch.utils.flop_counter import FlopCounterMode

from segmentation.analysis.expense import Bench, Expense
from segmentation.analysis.runs import Cell
from segmentation.models.files import find_model, rebuild
from segmentation.models.network import Network
from segmentation.models.slot import count_parameters
from segmentation.trainer import lightning_precision

ROUNDS = 15
LONG = 10.0  # seconds after which a network's rounds of batches end, five at least
MEMORY = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # Linux: forget the peak, and read it


def measure(cells: Sequence[Cell], device: torch.device) -> Bench:
    """Measure the networks of several cells, as their first runs were trained, one after another in every round."""
    networks = {cell.label: prepare(cell, device) for cell in cells}
    config = cells[0].runs[0].config
    precision, data = lightning_precision(config["trainer"]["precision"], device.type), config["data"]
    height, width = data["size"] or seen_size(cells[0])
    single, batch = (torch.rand(count, 3, height, width, device=device) for count in (1, data["batch_size"]))
    memory: dict[str, float | None] = {}
    latencies: dict[str, list[float]] = {label: [] for label in networks}
    rates: dict[str, list[float]] = {label: [] for label in networks}

    def work(label: str, images: torch.Tensor) -> Callable[[], object]:
        return functools.partial(forward, networks[label], images, precision)

    with torch.inference_mode(), Progress(transient=True) as progress:
        for label in networks:
            forward(networks[label], single, precision)  # kernels are chosen and orders laid out at the first
            memory[label] = peak_memory(work(label, batch), device)
        for _ in progress.track(range(ROUNDS), description="measuring the cost"):
            for label in networks:
                latencies[label].append(1000 * seconds(work(label, single), device))
                if len(rates[label]) < 5 or len(batch) * sum(1 / rate for rate in rates[label]) < LONG:
                    rates[label].append(len(batch) / seconds(work(label, batch), device))
    expenses = {
        label: Expense(
            count_parameters(network),
            multiply_adds(network, (height, width)),
            latencies[label],
            float(np.median(rates[label])),
            memory[label],
        )
        for label, network in networks.items()
    }
    return Bench(device_name(device), precision, (height, width), len(batch), expenses)


def prepare(cell: Cell, device: torch.device) -> Network:
    """The network of a cell as it was trained, on a device; its weights do not matter."""
    run = cell.runs[0]
    network = rebuild(find_model(run.folder))[0].eval().to(device)
    return network.to(memory_format=torch.channels_last) if run.config["trainer"]["channels_last"] else network


def seen_size(cell: Cell) -> tuple[int, int]:
    """Height and width of the first image that a cell without `data.size` was tested on."""
    picture = next((cell.runs[0].folder / "predictions").rglob("*.png"))
    width, height = Image.open(picture).size
    return height, width


def forward(network: Network, images: torch.Tensor, precision: str) -> torch.Tensor:
    """One pass, with autocast where the training had it."""
    types = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    with torch.autocast(images.device.type, types[precision]) if precision in types else nullcontext():
        logits: torch.Tensor = network(images)
    return logits


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long some work takes."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def multiply_adds(network: Network, size: tuple[int, int]) -> int:
    """Of one image's forward pass: matrix products, convolutions, attention, and the recurrent cells step by step.

    Counted without computing, on torch's meta device, where recurrent networks fall into their matrix products.
    The network is of no use afterwards.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.to("meta")(torch.zeros(1, 3, *size, device="meta"))
    return int(counter.get_total_flops()) // 2


def peak_memory(work: Callable[[], object], device: torch.device) -> float | None:
    """MiB that some work takes at its peak: of the device, or on a CPU of the process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    if device.type == "cpu" and platform.system() == "Linux":
        return grown(work)
    return None


def grown(work: Callable[[], object]) -> float | None:
    """MiB by which this process grows at the peak of some work; None where Linux does not tell."""
    forget, status = MEMORY
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier work left in the allocator would hide this work's
    try:
        before = read_kib(status, "VmRSS")
        forget.write_text("5")
        work()
        return (read_kib(status, "VmHWM") - before) / 1024
    except (OSError, AttributeError, LookupError):
        return None


def read_kib(status: Path, key: str) -> int:
    """A line of the process's status."""
    found = re.search(rf"{key}:\s+(\d+)", status.read_text())
    if found is None:
        raise LookupError(key)
    return int(found[1])


def device_name(device: torch.device) -> str:
    """What the machine calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    found = (
        re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())
        if (cpuinfo := Path("/proc/cpuinfo")).exists()
        else None
    )
    return f"{found[1] if found else platform.processor() or platform.machine()} ({torch.get_num_threads()} threads)"
