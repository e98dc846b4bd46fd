"""A network in two files of plain data: `model.safetensors` for the weights, `model.json` for all that rebuilds it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from segmentation.errors import UserError
from segmentation.models.described import check_meta, check_names, check_settings, check_sizes
from segmentation.models.export.exported import USUAL, Exported
from segmentation.models.export.formats import codec, format_of
from segmentation.models.network import Inputs, Network, build_network
from segmentation.reading import read_json
from segmentation.targets import refusal
from segmentation.whole import whole

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
FORMAT = 1
LONGEST = 2**20  # bytes of a description
META = ("classes", "colours", "ignore_index", "size", "channels", "white", "shown")  # of the data, to use a network


def save_model(network: Network, folder: Path, *, model: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Write both files, each whole or not at all.

    Args:
        network: what `build_network` made of `model` for these classes and channels.
        folder: where they go.
        model: `backbone`, `decoder` and `lstm` as plain containers.
        meta: the keys of `META`, for whoever uses the network.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with whole(folder / WEIGHTS) as partial:
        partial.write_bytes(save(weights))  # its own way of writing hides why a disk refuses
    rebuilt = {**model, "backbone": {**model["backbone"], "weights": "none", "checkpointing": False}}  # now in the file
    with whole(folder / DESCRIPTION) as partial:
        partial.write_text(json.dumps({"format": FORMAT, "model": rebuilt, "meta": dict(meta)}, indent=2) + "\n")


def load_model(path: str | Path, *, trust: bool = False) -> tuple[Network | Exported, dict[str, Any]]:
    """The network, in evaluation mode, and its meta.

    Args:
        path: a run's folder, one of the two files in it, a file that `segmentation.export` wrote, or hf://USER/NAME,
            a repository on the Hugging Face Hub.
        trust: let `model.json` name parts that are not the project's own; importing them runs their code.
    """
    exported = format_of(path)
    if exported is not None and Path(path).is_file():
        found, meta = codec(exported).read(Path(path), trust=trust)
        return found.eval(), meta
    return load_network(path, trust=trust)


def load_network(path: str | Path, *, trust: bool = False) -> tuple[Network, dict[str, Any]]:
    """As `load_model`, but for exported files, which hold a graph and not the network's parts."""
    folder = find_model(path)
    network, meta = rebuild(folder, trust=trust)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{folder / WEIGHTS}: does not hold the weights of its {DESCRIPTION}: {reason}") from error
    return network.eval(), meta


def rebuild(folder: Path, *, trust: bool = False) -> tuple[Network, dict[str, Any]]:
    """The network that a folder's `model.json` describes, with random weights, and its meta; as in `load_model`."""
    description, path = read_description(folder), folder / DESCRIPTION
    model, meta = description["model"], description["meta"]
    inputs = Inputs(meta["channels"])  # mean and standard deviation are in the file of the weights

    def build() -> Network:
        try:
            return build_network(model, len(meta["classes"]), inputs, load_weights=False)
        except Exception as error:  # a description that nobody's training wrote can be wrong in any way
            reason = str(refusal(error, "model"))
            raise UserError(reason if str(path) in reason else f"{path}: no network for it: {reason}") from error

    if not trust:
        check_names(model, path)
        check_settings(model, path)
        check_sizes(build, folder / WEIGHTS, path)
    return build(), meta


def find_model(path: str | Path) -> Path:
    """The folder that holds both files of a model, given it or one of them."""
    if str(path).startswith("hf://"):
        from segmentation.hub import fetch  # its client is slow to import, and seldom needed

        path = fetch(str(path))
    if not Path(path).exists():
        raise UserError(f"model={path}: no such file or folder; give the folder of a finished run, or its {WEIGHTS}")
    if format_of(path) is not None and Path(path).is_file():
        raise UserError(f"model={path}: an exported network, which predict alone can run; give the run's folder")
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    for file in (DESCRIPTION, WEIGHTS):
        if not (folder / file).is_file():
            raise UserError(f"model={path}: there is no {file}; give the folder of a finished run, or its {WEIGHTS}")
    return folder


def read_description(folder: Path) -> dict[str, Any]:
    """The content of a folder's `model.json`."""
    path = folder / DESCRIPTION
    try:
        description: dict[str, Any] = read_json(path, most=LONGEST)
        known = description["format"] == FORMAT
        for part in ("backbone", "decoder", "lstm"):
            description["model"][part].keys()
        check_meta(description["meta"], path)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the description of a model") from error
    if not known:
        raise UserError(f"{path}: format {description['format']} is not {FORMAT}; it is of another release")
    description["meta"] = USUAL | description["meta"]
    return description
