"""The formats that a network can be written in, and networks read back from them. Imports nothing heavy itself."""

import importlib
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class Format(NamedTuple):
    suffix: str
    module: str  # has `write(program, path, meta)` and `read(path, trust)`, as `Codec`


class Codec(Protocol):
    """What the module of a format offers."""

    def write(self, program: Any, path: Path, meta: dict[str, Any]) -> None:
        """Write a program of torch.export, as `segmentation.models.export.tracing` makes it."""

    def read(self, path: Path, *, trust: bool) -> tuple[Any, dict[str, Any]]:
        """An `Exported` and its meta."""


FORMATS = {
    "onnx": Format(".onnx", "segmentation.models.export.onnx"),
    "torch": Format(".pt2", "segmentation.models.export.program"),
}


def codec(name: str) -> Codec:
    """The module of a format."""
    module: Codec = importlib.import_module(FORMATS[name].module)
    return module


def format_of(path: str | Path) -> str | None:
    """The format that a file's name ends like, or None where it is not that of an exported network."""
    suffix = Path(path).suffix.lower()
    return next((name for name, known in FORMATS.items() if known.suffix == suffix), None)
