"""`lstm.cell=auto`: the cell that trains faster at the run's own size on its own device, found by trying."""

import hashlib
import json
import logging
import os
import statistics
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate

from segmentation.analysis.cells import IDENTITY
from segmentation.cli import is_first_process
from segmentation.cost import device_name, synchronise
from segmentation.data.module import DataModule
from segmentation.errors import UserError
from segmentation.lock import turn
from segmentation.models.decoders import MULTIPLE, build_features
from segmentation.reading import read_json
from segmentation.runfiles import write_json
from segmentation.sweeps.ledger import LEDGER

log = logging.getLogger(__name__)
FILE = "choice.json"  # in the folder of a run, and of a sweep: what was measured, and chosen
CANDIDATES = ("lstm", "mingru")  # step by step, and the fastest of those that need not be
ROUNDS = 5


def settle_cell(
    settings: dict[str, Any], data: DataModule, folder: Path, trainer: pl.Trainer, checkpoint: Path | None
) -> None:
    """Put the name of a cell in the place of `lstm.cell=auto`, and what was measured into the run's folder.

    A run that goes on, or is tested again, keeps the cell that it began with. The runs of a sweep share what one of
    them measured, or the seeds of a study would train different networks.

    Args:
        settings: the whole configuration, changed in place.
        data: of which the network sees batches.
        folder: the run's.
        trainer: knows the device, and how it computes.
        checkpoint: the run goes on from it.

    Raises:
        UserError: where several processes were started at once, which would measure differently.
    """
    if settings["lstm"].get("cell") != "auto":
        return
    if settings["lstm"]["_target_"] == IDENTITY:
        settings["lstm"]["cell"] = CANDIDATES[0]  # nothing is scanned
        return
    file = folder / FILE
    begun = [file, *([checkpoint.parent.parent / FILE] if checkpoint else [])]
    known = next((one for one in begun if one.is_file()), None)
    measures = known is None or checkpoint is None
    # Slurm starts all processes at once; torchrun as well, and ends them all when the first one fails.
    slurm, first = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1, is_first_process()
    if measures and (slurm or (first and int(os.environ.get("WORLD_SIZE", "1")) > 1)):
        raise UserError(f"lstm.cell=auto: several processes would measure differently; name one of {CANDIDATES}")
    if measures and first:
        write_json(file, shared_choice(settings, data, folder, trainer))
    elif known is None:
        raise UserError(f"lstm.cell=auto: several processes would measure differently; name one of {CANDIDATES}")
    elif known != file:
        write_json(file, {**read_json(known), "cell": chosen_cell(known)})
    settings["lstm"]["cell"] = chosen_cell(file)


def chosen_cell(file: Path) -> str:
    """The cell that a run's file names; only one of those that are measured, since a cell's path is imported."""
    content = read_json(file)
    cell = content.get("cell") if isinstance(content, dict) else None
    if cell not in CANDIDATES:
        raise UserError(
            f"{file}: names none of the cells that are measured, {', '.join(CANDIDATES)}; remove it, or give lstm.cell"
        )
    return str(cell)


def shared_choice(settings: dict[str, Any], data: DataModule, folder: Path, trainer: pl.Trainer) -> dict[str, Any]:
    """The chosen cell and its milliseconds: in a sweep, what an earlier run with the same LSTM and maps measured."""
    if not (folder.parent / LEDGER).is_file():
        return choose(settings, data, trainer)
    file = folder.parent / FILE
    batch = [settings["data"]["batch_size"], trainer.accumulate_grad_batches, trainer.world_size]
    parts = [settings["lstm"], settings["backbone"], settings["decoder"], data.size, batch]
    device = [device_name(trainer.strategy.root_device), trainer.precision]
    key = hashlib.sha256(json.dumps([*parts, *device], sort_keys=True).encode()).hexdigest()[:16]
    with turn(file):
        choices: Any = read_json(file) if file.is_file() else {}
        if not isinstance(choices, dict):
            raise UserError(f"{file}: not what a sweep leaves; remove it")
        if key not in choices:
            choices[key] = choose(settings, data, trainer)
            write_json(file, choices)
    choice: Any = choices[key]
    if not isinstance(choice, dict):
        raise UserError(f"{file}: not what a sweep leaves; remove it")
    return choice


def choose(settings: dict[str, Any], data: DataModule, trainer: pl.Trainer) -> dict[str, Any]:
    """The faster cell, and what each took."""
    milliseconds = compare(settings, data, trainer)
    chosen = min(milliseconds, key=milliseconds.__getitem__)
    times = ", ".join(f"{name} {value:.1f} ms" for name, value in milliseconds.items())
    log.info(f"lstm.cell=auto: {chosen} (forward and backward: {times})")
    return {"cell": chosen, "milliseconds": milliseconds}


def compare(settings: dict[str, Any], data: DataModule, trainer: pl.Trainer) -> dict[str, float]:
    """Milliseconds that the LSTM with each candidate takes forward and backward, over maps of the run's own size."""
    device = trainer.strategy.root_device
    seconds: dict[str, list[float]] = {cell: [] for cell in CANDIDATES}
    with torch.random.fork_rng():  # the run's own numbers are drawn as if nothing had been tried
        features = build_features(settings["backbone"], settings["decoder"], data.channels, load_weights=False)
        height, width = data.size or data.reader("train")[0].mask.shape
        sides = [max(features.minimum, -(-side // MULTIPLE) * MULTIPLE) // features.stride for side in (height, width)]
        count = max(1, settings["data"]["batch_size"] // trainer.accumulate_grad_batches // trainer.world_size)
        maps = torch.randn(count, features.channels, *sides, device=device).contiguous(
            memory_format=torch.channels_last
        )
        modules = {
            cell: instantiate(
                {**settings["lstm"], "cell": cell},
                channels=features.channels,
                map_stride=features.stride,
                _convert_="all",
            ).to(device)
            for cell in CANDIDATES
        }
        for _ in range(1 + ROUNDS):
            for cell, module in modules.items():
                seconds[cell].append(time_step(module, maps, trainer))
    return {cell: 1000 * statistics.median(values[1:]) for cell, values in seconds.items()}  # the first warms up


def time_step(module: torch.nn.Module, maps: torch.Tensor, trainer: pl.Trainer) -> float:
    """Seconds of one pass forward and backward, in the precision of the training."""
    inputs = maps.clone().requires_grad_()
    synchronise(maps.device)
    start = time.perf_counter()
    with trainer.precision_plugin.forward_context():
        result = module(inputs)
    result.float().sum().backward()
    synchronise(maps.device)
    return time.perf_counter() - start
