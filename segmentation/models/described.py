"""What a model's files may say, asked before anything that they name is imported, built, or given memory."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook as on_module
from torch.nn.modules.module import register_module_parameter_registration_hook as on_parameter

from segmentation.errors import UserError
from segmentation.models import orders
from segmentation.models.controls import identity
from segmentation.models.slot import Slot
from segmentation.ranges import MOST_PIXELS, SIDE, check_values
from segmentation.targets import find_ours

MODULES = 4  # times as many modules and parameters as tensors in the file may be made on the way to a network,
SPARE = 20_000  # and so many more: timm's models have heads and layers that a backbone leaves out
RESERVED = re.compile(r"_(partial|recursive|convert|args|mode)_")  # Hydra's own keywords: how, beside what, to call


def check_meta(meta: Any, path: Path) -> None:
    """Raise a UserError unless classes, colours, void label and size can be a network's."""
    classes, colours = meta["classes"], meta.get("colours")
    size, void = meta.get("size"), meta.get("ignore_index", 255)
    good = isinstance(classes, list) and 1 <= len(classes) <= 255 and all(isinstance(name, str) for name in classes)
    if good and colours is not None:
        good = isinstance(colours, list) and len(colours) == len(classes) and all(is_colour(one) for one in colours)
    if good and size is not None:
        good = is_size(size)
    channels, shown = meta.get("channels", 3), meta.get("shown")
    good = good and is_whole(channels, 1, 1024) and is_whole(void, 0, 255)
    if good and shown is not None:
        good = isinstance(shown, list) and all(is_whole(channel, 0, channels - 1) for channel in shown)
    if not good:
        raise UserError(f"{path}: classes, colours, ignore_index, size, channels or shown are no network's")


def is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(is_whole(part, 0, 255) for part in value)


def is_size(value: Any) -> bool:
    """Whether this is [height, width] that an image can have."""
    pair = isinstance(value, list) and len(value) == 2 and all(is_whole(side, 1, SIDE) for side in value)
    return pair and value[0] * value[1] <= MOST_PIXELS


def check_names(model: Mapping[str, Any], path: Path) -> None:
    """Raise a UserError unless a description names only what the project defines for the place where it stands.

    Allowed are a `_target_` for `decoder` and for `lstm`, each a network, and dotted paths for `lstm.order` and
    `lstm.cell`. A `_target_` further inside would be built as well, with arguments of the file's.
    """
    for key, name in dotted_names(model):
        fits = PLACES.get(key)
        if fits is None or "${" in name or not find_ours(name, fits):
            raise UserError(
                f"{path}: {key} names {name!r}, which is not the project's own and would run code; "
                "trust it (trust=true; --trust for report) if you know where the file comes from"
            )


def is_decoder(found: Any) -> bool:
    """Whether this is the class of a model whose encoder and decoder are taken."""
    inside = ("segmentation.models.decoders", "segmentation_models_pytorch.decoders.")
    return is_network(found) and found.__module__.startswith(inside)


def is_slot(found: Any) -> bool:
    """Whether this takes the LSTM's place: a class for it, or `lstm=none`'s function."""
    return found is identity or (isinstance(found, type) and issubclass(found, Slot))


def is_order(found: Any) -> bool:
    """Whether this is one of the project's scan orders."""
    return callable(found) and found.__module__ == orders.__name__


def is_network(found: Any) -> bool:
    """Whether this is the class of a module."""
    return isinstance(found, type) and issubclass(found, nn.Module)


# What may stand where.
PLACES: dict[str, Callable[[Any], bool]] = {
    "decoder._target_": is_decoder,
    "lstm._target_": is_slot,
    "lstm.order": is_order,
    "lstm.cell": is_network,
}


def dotted_names(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, name) of everything in a model's description that would be imported, or that would first become a name:
    interpolations are resolved when the parts are built, and a finished run's description has none.
    """
    if isinstance(node, Mapping):
        for name, value in node.items():
            inner = f"{key}.{name}".lstrip(".")
            if RESERVED.fullmatch(str(name)) or (name == "_target_" and not isinstance(value, str)):
                yield inner, str(value)
            yield from dotted_names(value, inner)
    elif isinstance(node, list):
        for value in node:
            yield from dotted_names(value, key)
    elif isinstance(node, str):
        named = key.endswith(("lstm.order", "lstm.cell")) and "." in node
        if key.rpartition(".")[2] == "_target_" or named or "${" in node:
            yield key, node


def check_settings(model: Mapping[str, Any], path: Path) -> None:
    """Raise a UserError for a value out of the range that a training's configuration has for it."""
    try:
        check_values(OmegaConf.create({"lstm": model["lstm"], "decoder": model["decoder"]}))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def check_sizes(build: Callable[[], nn.Module], weights: Path, path: Path) -> None:
    """Raise a UserError unless a network has the tensors that its file holds: on the meta device, where it takes no
    memory, and only until there are more parts than such a file can be of.

    Args:
        build: makes the network.
        weights: its .safetensors file.
        path: its description, for errors.
    """
    held = read_shapes(weights)
    with limited(MODULES * len(held) + SPARE, path), torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = build()
    ours = {name: list(value.shape) for name, value in network.state_dict().items()}
    differing = sorted(name for name in ours.keys() | held.keys() if ours.get(name) != held.get(name))
    if differing:
        name = differing[0]
        raise UserError(
            f"{weights}: does not hold the weights of its {path.name}: {name} is {held.get(name, 'not there')} "
            f"instead of {ours.get(name, 'not there')}"
        )


def read_shapes(weights: Path) -> dict[str, list[int]]:
    """The shapes of a .safetensors file's tensors, from its header, which must fit the file's length."""
    try:
        with safe_open(weights, "pt") as content:
            return {name: list(content.get_slice(name).get_shape()) for name in content.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{weights}: does not hold the weights of its description: {reason}") from error


@contextmanager
def limited(most: int, path: Path) -> Iterator[None]:
    """Let no more than so many modules and parameters be made, or raise a UserError."""
    made = 0

    def count(*_: Any) -> None:
        nonlocal made
        made += 1
        if made > most:
            raise UserError(f"{path}: describes a network of more parts than its weights are of")

    with ExitStack() as stack:
        for register in (on_module, on_parameter):
            stack.callback(register(count).remove)
        yield
