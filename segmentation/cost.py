"""Measure what the networks of a report cost: parameters, multiply-adds, latency, throughput and peak memory."""

import functools
import gc
import platform
import re
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import Progress
from torch.utils.flop_counter import FlopCounterMode

from segmentation.allocator import release_freed_memory
from segmentation.analysis.cells import Cell
from segmentation.analysis.expense import Bench, Expense
from segmentation.analysis.runs import Run
from segmentation.errors import UserError
from segmentation.models.files import DESCRIPTION, rebuild
from segmentation.models.network import Network
from segmentation.models.slot import count_parameters
from segmentation.trainer import lightning_precision

ROUNDS = 15
MOST_MEASURED = 2**28  # pixels of a batch
LONG = 10.0  # seconds after which a network's rounds of batches end, five at least
MEMORY = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # Linux: forget the peak, and read it


@dataclass
class Candidate:
    """A network as its cell was trained, and what is fed to it."""

    network: Network
    precision: str
    single: torch.Tensor  # [1, C, H, W]
    batch: torch.Tensor  # [B, C, H, W]
    memory: float | None = None
    latencies: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def seconds(self, images: torch.Tensor) -> float:
        """How long a forward pass takes."""
        synchronise(images.device)
        start = time.perf_counter()
        self.forward(images)
        synchronise(images.device)
        return time.perf_counter() - start

    def forward(self, images: torch.Tensor) -> None:
        """One pass, with autocast where the training had it."""
        types = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
        dtype = types.get(self.precision)
        with torch.autocast(images.device.type, dtype) if dtype else nullcontext():
            self.network(images)

    def warm_up(self) -> None:
        """Let kernels be chosen and orders be laid out, and find a batch that fits."""
        self.forward(self.single)
        while True:
            try:
                self.memory = peak_memory(functools.partial(self.forward, self.batch), self.batch.device)
                return
            except RuntimeError:  # torch's out of memory, on a smaller machine than that of the training
                if len(self.batch) == 1:
                    raise
                self.batch = self.batch[: len(self.batch) // 2]

    def round(self) -> None:
        """One latency, and one batch unless enough have run."""
        self.latencies.append(1000 * self.seconds(self.single))
        if len(self.rates) < 5 or len(self.batch) * sum(1 / rate for rate in self.rates) < LONG:
            self.rates.append(len(self.batch) / self.seconds(self.batch))

    def expense(self) -> Expense:
        """All that was measured; the network is of no use afterwards."""
        height, width = self.single.shape[-2:]
        parameters, operations = count_parameters(self.network), multiply_adds(self.network, (height, width))
        rate = float(np.median(self.rates))
        size, batch = (height, width), len(self.batch)
        return Expense(size, batch, self.precision, parameters, operations, self.latencies, rate, self.memory)


def measure(cells: Sequence[Cell], device: torch.device, *, trust: bool = False) -> Bench:
    """Measure the networks of several cells, as their first runs were trained, one after another in every round.

    Raises:
        UserError: for a run whose network cannot be rebuilt; `trust` lets its files name parts that are not the
            project's own.
    """
    candidates = {cell.label: prepare(cell, device, trust=trust) for cell in cells}
    with torch.inference_mode(), Progress(transient=True) as progress:
        for candidate in candidates.values():
            candidate.warm_up()
        for _ in progress.track(range(ROUNDS), description="measuring the cost"):
            for candidate in candidates.values():
                candidate.round()
    return Bench(device_name(device), {label: candidate.expense() for label, candidate in candidates.items()})


def prepare(cell: Cell, device: torch.device, *, trust: bool) -> Candidate:
    """The network of a cell on a device; its weights do not matter."""
    run = cell.runs[0]
    if not (run.folder / DESCRIPTION).is_file():
        raise UserError(f"{run.folder / DESCRIPTION}: no such file")
    trainer, data = run.config["trainer"], run.config["data"]
    network = rebuild(run.folder, trust=trust)[0].eval().to(device)
    network = network.to(memory_format=torch.channels_last) if trainer["channels_last"] else network
    height, width = data["size"] or seen_size(run)
    if data["batch_size"] * height * width > MOST_MEASURED:
        raise UserError(f"{data['batch_size']} images of {height}x{width} are too many to measure")
    shape = network.channels, height, width
    single, batch = (torch.rand(count, *shape, device=device) for count in (1, data["batch_size"]))
    return Candidate(network, lightning_precision(trainer["precision"], device.type), single, batch)


def seen_size(run: Run) -> tuple[int, int]:
    """Height and width of the first image that a run without `data.size` was tested on."""
    counted = run.confusions()
    path = run.prediction(counted.names[0]) if counted else run.folder / "confusion.npz"
    if counted is None or not path.is_file():
        raise UserError(f"{path}: no such file, which would tell the size of the images")
    with Image.open(path, formats=["PNG"]) as picture:
        return picture.height, picture.width


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def multiply_adds(network: Network, size: tuple[int, int]) -> int:
    """Of one image's forward pass: matrix products, convolutions, attention, and the recurrent cells step by step.

    Counted without computing, on torch's meta device, where recurrent networks fall into their matrix products.
    The network is of no use afterwards.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.to("meta")(torch.zeros(1, network.channels, *size, device="meta"))
    return int(counter.get_total_flops()) // 2


def peak_memory(work: Callable[[], object], device: torch.device) -> float | None:
    """MiB that some work takes at its peak: of the device, or on a CPU of the process."""
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # without it, the first call of a process is refused
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
    release_freed_memory()
    try:
        before = read_kib(status, "VmRSS")
        forget.write_text("5")
        work()
        return (read_kib(status, "VmHWM") - before) / 1024
    except (OSError, LookupError):
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
