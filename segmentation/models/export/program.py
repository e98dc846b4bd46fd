"""Programs of torch.export: the traced operations and the weights, which run without this project's code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segmentation.errors import UserError
from segmentation.models.export.exported import META, Exported, parse_meta


class ProgramNetwork(Exported):
    """A program behind the call of a network."""

    def __init__(self, program: Callable[[Tensor], Tensor], fixed: list[int] | None, where: Path) -> None:
        super().__init__(fixed, where)
        self.program = program

    def run(self, image: Tensor) -> Tensor:
        return self.program(image)


def write(program: Any, path: Path, meta: dict[str, Any]) -> None:
    """Write a program, whole.

    Raises:
        UserError: for arithmetic on sizes that the file format has no word for.
    """
    try:
        torch.export.save(program, path, extra_files={META: json.dumps(meta)})
    except RuntimeError as error:
        advice = "use format=onnx" if meta["fixed"] else "give size=[height,width], or use format=onnx"
        reason = " ".join(str(error).split()).partition(" Original exception")[0][:160]
        raise UserError(f"model: torch.export cannot save this network; {advice}: {reason}") from error


def read(path: Path, *, trust: bool) -> tuple[ProgramNetwork, dict[str, Any]]:
    """The network of a program's file and its meta.

    Raises:
        UserError: unless trusted. torch.export.load unpickles constants and examples where the file says so
            (`weights_only=False`), which lets a stranger's file run any code.
    """
    if not trust:
        raise UserError(
            f"{path}: torch's programs may hold pickled objects, which run code; trust=true if you know where it comes "
            "from, or use format=onnx, which holds none"
        )
    found = {META: ""}
    try:
        program = torch.export.load(path, extra_files=found)
    except Exception as error:  # whatever a broken archive makes of it
        raise UserError(f"{path}: torch cannot read it: {' '.join(str(error).split())[:160]}") from error
    meta = parse_meta(found[META], path)
    # As a function, not as a part: it was traced in evaluation mode, and torch forbids it to change modes.
    return ProgramNetwork(program.module().__call__, meta["fixed"], path), meta
