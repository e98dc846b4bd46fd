"""Files that may come from a stranger, read as plain data.

Nothing in them runs, and their sizes are asked before memory is taken. What is wrong with one ends in a line naming it.
"""

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from omegaconf import DictConfig, OmegaConf

from segmentation.errors import UserError

MOST_TEXT = 64 * 2**20  # bytes of a JSON file; a description or a configuration is far smaller
MOST_YAML = 2**20
MOST_ARRAYS = 4 * 2**30  # bytes of the arrays of an .npz: 171 classes in 5,000 images are 1.2 GB
RESOLVER = re.compile(r"\$\{(?=[^{}$]*:)")  # `${name:...}`, which would read the environment or call a function


def read_text(path: Path, most: int) -> str:
    """A file's text, or a UserError where it is longer than `most` bytes, or no text."""
    if (size := path.stat().st_size) > most:
        raise UserError(f"{path}: {size:,} bytes, and {most:,} are the most that such a file can have")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text ({error.reason} at byte {error.start})") from error


def read_json(path: Path, *, most: int = MOST_TEXT) -> Any:
    """A JSON file's content."""
    try:
        return json.loads(read_text(path, most))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: no JSON that can be read ({' '.join(str(error).split())[:100]})") from error


def read_yaml(path: Path) -> Any:
    """A YAML file's content. Aliases are refused: nested, a few lines of them stand for more than any memory holds, and
    no configuration that Hydra wrote has one.
    """
    text = read_text(path, MOST_YAML)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise UserError(f"{path}: has YAML aliases (*name), which are not read; write out what they stand for")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: no YAML that can be read ({' '.join(str(error).split())[:100]})") from error


def read_configuration(path: Path, *, trust: bool = False) -> DictConfig:
    """A run's configuration, as Hydra saved it.

    Interpolations between its keys stay alive. Those that call a resolver (`${oc.env:HOME}`) become the text that they
    are, unless trusted: what they fetch would end up in the files that a command writes.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a configuration; give the folder of a run")
    config = OmegaConf.create(content if trust else disarm(content))
    assert isinstance(config, DictConfig)
    return config


def disarm(node: Any) -> Any:
    """Plain containers whose calls of resolvers are text."""
    if isinstance(node, Mapping):
        return {key: disarm(value) for key, value in node.items()}
    if isinstance(node, list):
        return [disarm(value) for value in node]
    if isinstance(node, str) and RESOLVER.search(node):
        return node.replace("${", "\\${")
    return node


def read_arrays(path: Path, *, most: int = MOST_ARRAYS) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz file, none of them of Python objects.

    Raises:
        UserError: for what is no such file, holds objects, or takes more than `most` bytes; nothing was unpacked then.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(declared(archive, member) for member in archive.infolist())
        if total > most:
            raise UserError(f"{path}: its arrays take {total:,} bytes, and {most:,} are the most that are read")
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: not arrays of numbers as this project writes them ({reason})") from error


def declared(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Bytes of a member's array, by its header; its data must be as long."""
    with archive.open(member) as content:
        version = np.lib.format.read_magic(content)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = header(content)
        size = int(np.prod([int(side) for side in shape], dtype=object)) * kind.itemsize if shape else kind.itemsize
        if kind.hasobject:
            raise ValueError(f"{member.filename} holds Python objects")
        if content.tell() + size != member.file_size:
            raise ValueError(f"{member.filename} says it has {size:,} bytes, and has others")
    return size


def read_tensors(path: Path) -> Any:
    """What torch saved, as plain tensors and containers: no pickled object is made.

    Raises:
        UserError: for a file that unpacks to more than it is long: torch packs nothing.
        Exception: whatever torch makes of a file that it cannot read, or that names what is no plain data.
    """
    import torch

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            total, size = sum(member.file_size for member in archive.infolist()), path.stat().st_size
        if total > size:
            raise UserError(f"{path}: {size:,} bytes that unpack to {total:,}, which torch never writes")
    return torch.load(path, map_location="cpu", weights_only=True)


def below(folder: Path, name: str) -> Path:
    """The path of what is called `name` in a folder, or a UserError for a name that leads out of it."""
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts or "\0" in name or not place.parts:
        raise UserError(f"{name!r}: leads out of {folder}, or is no name for a file in it")
    return folder / name


def no_links(folder: Path, files: Sequence[Path]) -> None:
    """Raise a UserError for a file that is, or lies behind, a link out of the folder."""
    for file in files:
        if not file.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{file}: a link that leads out of {folder}; put the file itself there")
