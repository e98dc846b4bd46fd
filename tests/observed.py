"""What a configuration does, as far as it can be seen: two values of a key that does nothing would look alike."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from segmentation.benchmarks.contestants import Ours
from segmentation.benchmarks.files import on_disk
from segmentation.check_data import check_data
from segmentation.checkpoints import find_checkpoint
from segmentation.data.module import DataModule
from segmentation.errors import UserError
from segmentation.evaluate import described_data, evaluate
from segmentation.models.network import Inputs, build_network
from segmentation.models.scans import Scan
from segmentation.optim import build_optimizer
from segmentation.targets import build
from segmentation.train import build_task, model_settings, train
from segmentation.trainer import build_trainer
from tests.settings import plain

Observe = Callable[[DictConfig, Path], Any]


def digest(*arrays: Any) -> str:
    """One word for the content of arrays and tensors."""
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(np.asarray(array).tobytes() + repr(np.asarray(array).shape).encode())
    return whole.hexdigest()[:12]


def network(config: DictConfig, folder: Path) -> Any:
    """Its tensors, its answer, and how it computes."""
    settings = plain(config)
    torch.manual_seed(0)
    inputs = Inputs(**{key: settings["data"][key] for key in Inputs._fields})
    net = build_network(model_settings(settings), len(settings["data"]["classes"]), inputs).eval()
    image = torch.rand(1, inputs.channels, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answer = net(image)
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    how = [getattr(part, "grad_checkpointing", False) for part in net.modules()]
    return shapes, digest(answer), how, [part.chunk for part in net.modules() if isinstance(part, Scan)]


def task(config: DictConfig, folder: Path) -> Any:
    """Its loss, the groups and steps of its optimizer, the heads beside it."""
    settings = plain(config)
    torch.manual_seed(0)
    made = build_task(settings, DataModule(settings["data"], settings["augment"], 0))
    optimizer = build_optimizer(made.network, made.optimizer_config, aux=made.aux)
    schedule, rates = made.scheduler(optimizer, 10), []
    for _ in range(8):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    logits = torch.randn(1, len(made.classes), 6, 7, generator=torch.Generator().manual_seed(0))
    loss = made.loss(logits, torch.arange(42).view(1, 6, 7) % len(made.classes)).item()
    groups = [
        {**{key: value for key, value in group.items() if key != "params"}, "n": len(group["params"])}
        for group in optimizer.param_groups
    ]
    compiled = made.network._compiled_call_impl is not None
    heads = (len(made.aux.heads), made.aux.weight) if made.aux else None
    return type(optimizer).__name__, groups, rates, loss, heads, made.memory_format, compiled


def samples(config: DictConfig, folder: Path) -> Any:
    """What the network would see and be judged by, how it is loaded, and what is kept of it."""
    settings = plain(config)
    data = DataModule(settings["data"], settings["augment"], settings["seed"])
    data.prepare("train", data.test_split)
    loader = data.train_dataloader()
    train_batch, test_batch = next(iter(loader)), next(iter(data.test_dataloader()))
    images = [digest(batch["image"], batch["mask"], batch["index"]) for batch in (train_batch, test_batch)]
    counts = [len(train_batch["index"]), len(test_batch["index"]), loader.num_workers, len(loader)]
    kept = sorted(path.stat().st_size for path in folder.rglob("*.samples"))
    shown = digest(data.visible(data.reader("train")[0].image))
    labels = data.classes, data.colours, data.ignore_index
    return images, counts, kept, shown, labels, data.groups("train"), data.contract(data.test_split)


def evaluated(config: DictConfig, words: list[str], folder: Path) -> Any:
    """What an evaluation's trainer is given to test, and all that its files are written from."""

    class SeenError(Exception):
        pass

    class Trainer:
        def test(self, task: Any, data: DataModule, **_: Any) -> None:
            raise SeenError(data)

    chosen = any(word.startswith("data=") for word in words)
    with patch("segmentation.trainer.build_trainer", lambda *_, **__: Trainer()):
        try:
            evaluate(config, described_data(config, words, chosen), folder / "scores")
        except SeenError as seen:
            data: DataModule = seen.args[0]
    loader, reader = data.test_dataloader(), data.reader(data.test_split)
    batch = next(iter(loader))
    given = digest(batch["image"], batch["mask"]), len(batch["index"]), len(loader), loader.num_workers, reader.names
    labels = data.classes, data.colours, data.ignore_index, digest(data.visible(reader[0].image))
    return given, labels, data.contract(data.test_split), sorted(p.stat().st_size for p in folder.rglob("*.samples"))


def surveyed(config: DictConfig, words: list[str], folder: Path) -> Any:
    """What a survey finds, and would draw."""
    drawn: list[Any] = []

    def sheet(samples: Any, *labels: Any) -> None:
        drawn.extend([digest(*(part for _, sample in samples for part in sample[:2])), labels])

    with patch("segmentation.survey.walk.contact_sheet", sheet), patch("segmentation.analysis.plots.save"):
        return check_data(config, folder / "check"), drawn


def measured(config: DictConfig, words: list[str], folder: Path) -> Any:
    """The data that a benchmark loads."""
    ours = Ours(on_disk(plain(config), folder / "bench"), folder / "bench", 1)
    data = ours.data()
    loaders = data.train_dataloader(), data.val_dataloader()
    batches = [next(iter(loader)) for loader in loaders]
    counts = [
        (len(loader), loader.num_workers, len(one["index"])) for loader, one in zip(loaders, batches, strict=True)
    ]
    kept = sorted(path.stat().st_size for path in folder.rglob("*.samples"))
    return counts, kept, data.classes, data.ignore_index, [digest(one["image"], one["mask"]) for one in batches]


def trainer(config: DictConfig, folder: Path) -> Any:
    """Lightning's Trainer."""
    settings = plain(config)
    before = torch.are_deterministic_algorithms_enabled()
    try:
        made = build_trainer(settings["trainer"], folder)
        names = "max_epochs num_nodes num_devices precision accumulate_grad_batches gradient_clip_val fast_dev_run"
        facts = {name: getattr(made, name) for name in f"{names} limit_val_batches".split()}
        return facts, type(made.strategy).__name__, torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(before)


def watchers(config: DictConfig, folder: Path) -> Any:
    """Callbacks and loggers, and where they write what they watch."""
    settings = plain(config)
    found = {name: type(one).__name__ for name, one in build(settings["callbacks"], "callbacks").items()}
    best: Any = build(settings["callbacks"], "callbacks")["best"]
    loggers = {name: type(one).__name__ for name, one in build(settings["logger"], "logger").items()}
    return found, best.monitor, best.mode, str(best.dirpath), loggers


def run(config: DictConfig, folder: Path) -> Any:
    """The files that a run leaves, and the line it ends with."""
    try:
        scores = sorted(train(config))
    except UserError as error:
        return str(error)
    return scores, sorted(path.name for path in Path(config.output).iterdir())


def resumed(config: DictConfig, folder: Path) -> Any:
    """The checkpoint that a run would go on from."""
    (folder / "run" / "checkpoints").mkdir(parents=True, exist_ok=True)
    for name in ("last.ckpt", "best.ckpt", "other.ckpt"):
        (folder / "run" / "checkpoints" / name).touch()
    return find_checkpoint(config.ckpt, folder / "run", train=config.train, resume=config.resume)


def write_files(folder: Path) -> None:
    """Two data sets in files, `a` and `b`: grey images of 16 bits, named after two videos, and masks of two classes."""
    for number, root in enumerate("ab"):
        for split, count in (("train", 6), ("val", 2), ("test", 2)):
            for index in range(count):
                rng = np.random.default_rng((number, index, count))
                labels = (rng.random((32, 48)) < 0.1 * (index + 1)).astype(np.uint8)
                labels[0, 0] = 255
                for kind, array in (
                    ("images", rng.integers(0, 4096, (32, 48)).astype(np.uint16)),
                    ("masks", labels),
                ):
                    path = folder / root / split / kind / f"v{index % 3}_{index}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(array).save(path)
        (folder / root / "few.txt").write_text("v0_0\n")


def settings_of(config: DictConfig, folder: Path) -> Any:
    """All of it."""
    return OmegaConf.to_container(config, resolve=False)


def trained(config: DictConfig, folder: Path) -> Any:
    """The weights after a step."""
    train(config)
    return [digest(np.fromfile(Path(config.output) / "model.safetensors", np.uint8))]


def card(config: DictConfig, folder: Path) -> Any:
    """What a run's card says of its data set."""
    train(config)
    lines = (Path(config.output) / "README.md").read_text().splitlines()
    return [line for line in lines if config.data.name in line]
