"""Files as an attacker would write them. Each would create the marker, if anything in it were executed."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Runs:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def payloads(marker: Path) -> dict[str, Any]:
    """Objects whose unpickling creates the marker, in several ways."""
    code = f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Runs(os.system, f"touch {marker}"),
        "exec": Runs(exec, code),
        "eval": Runs(eval, code),
        "Path.touch": Runs(Path.touch, marker),
        "open": Runs(open, str(marker), "w"),
        "torch.save": Runs(torch.save, {}, str(marker)),
        "np.save": Runs(np.save, str(marker), np.zeros(1)),
    }


def nestings(payload: Any) -> dict[str, Any]:
    """The payload at the places of a checkpoint where something reads it."""
    tensor = torch.zeros(1)
    return {
        "alone": payload,
        "in the state": {"state_dict": {"weight": tensor, "evil": payload}},
        "as the state": {"state_dict": payload},
        "beside the state": {"state_dict": {"weight": tensor}, "callbacks": {"x": [payload]}},
        "hyper-parameters": {"state_dict": {"weight": tensor}, "hyper_parameters": {"x": payload}},
        "instantiator": {"state_dict": {}, "hyper_parameters": {"_instantiator": payload, "_class_path": "os.system"}},
        "optimizer": {"state_dict": {"weight": tensor}, "optimizer_states": [payload]},
    }


def forms(content: Any) -> dict[str, bytes]:
    """The ways in which torch, or plain pickle, writes an object."""
    found = {}
    for name, zipped in (("zip", True), ("legacy", False)):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        found[name] = buffer.getvalue()
    for protocol in (0, 2, 4):
        found[f"pickle {protocol}"] = pickle.dumps(content, protocol=protocol)
    return found


def npz(path: Path, **arrays: Any) -> Path:
    """An .npz with whatever is in the arrays, objects as well."""
    made: Any = {key: np.asarray(value) for key, value in arrays.items()}
    np.savez(path, **made)
    return path


def npy_header(shape: str, kind: str = "<i8") -> bytes:
    """The header of an array of this shape."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def packed(path: Path, **members: bytes) -> Path:
    """A deflated zip of such members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def safetensors(path: Path, header: Any, data: bytes = b"") -> Path:
    """A .safetensors file with any header: an object, or bytes as they are."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path
