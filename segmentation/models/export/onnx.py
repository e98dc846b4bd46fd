"""ONNX files, run by onnxruntime. They need nothing of this project: classes and colours are in their metadata."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segmentation.errors import UserError
from segmentation.models.export.exported import META, Exported, parse_meta

try:
    import onnxruntime
    import onnxscript  # noqa: F401  # torch's exporter needs it, and says so only with a traceback
except ImportError as missing:
    raise UserError(
        f"ONNX needs {missing.name}, which is not installed; pip install 'segmentation[export]'"
    ) from missing


class OnnxNetwork(Exported):
    """An ONNX file behind the call of a network."""

    def __init__(self, session: Any, fixed: list[int] | None, where: Path) -> None:
        super().__init__(fixed, where)
        self.session = session

    def run(self, image: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(["logits"], {"image": image.numpy()})[0])


def write(program: Any, path: Path, meta: dict[str, Any]) -> None:
    """Write a program as ONNX, its inputs `image` and its outputs `logits`."""
    for chatty in ("onnx_ir", "onnxscript"):  # they tell of each constant that they merge
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "_check_is_size", FutureWarning)  # of torch's own decompositions
        exported = torch.onnx.export(
            program, input_names=["image"], output_names=["logits"], dynamo=True, verbose=False, external_data=False
        )
    assert exported is not None
    exported.model.metadata_props[META] = json.dumps(meta)
    exported.save(path)


def read(path: Path, *, trust: bool) -> tuple[OnnxNetwork, dict[str, Any]]:
    """The network of an ONNX file and its meta. The format holds no code, so it needs no trust."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes are private
        raise UserError(f"{path}: onnxruntime cannot read it: {' '.join(str(error).split())[:160]}") from error
    meta = parse_meta(session.get_modelmeta().custom_metadata_map.get(META), path)
    return OnnxNetwork(session, meta["fixed"], path), meta
