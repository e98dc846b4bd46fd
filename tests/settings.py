"""Configurations as the tests of several modules need them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from segmentation.config import CONF, BackboneConfig, LSTMConfig

if TYPE_CHECKING:
    from segmentation.models.network import Network

# Of a SpatialLSTM, small.
LSTM: dict[str, Any] = {
    key: getattr(LSTMConfig(), key)
    for key in (
        "order",
        "order_args",
        "combine",
        "cell",
        "hidden_size",
        "num_layers",
        "bidirectional",
        "residual",
        "stride",
        "chunk",
    )
} | {"hidden_size": 5}


def plain(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain containers."""
    settings = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def model(backbone: str = "resnet18", decoder: str = "fcn", **changes: Any) -> dict[str, Any]:
    """A network's configuration; a keyword such as `lstm__stride` changes one key."""
    groups = {
        "backbone": {**OmegaConf.to_container(OmegaConf.structured(BackboneConfig(name=backbone)))},  # type: ignore[dict-item]
        "decoder": OmegaConf.to_container(OmegaConf.load(CONF / "decoder" / f"{decoder}.yaml")),
        "lstm": {**OmegaConf.to_container(OmegaConf.structured(LSTMConfig(hidden_size=8)))},  # type: ignore[dict-item]
    }
    for key, value in changes.items():
        group, _, name = key.partition("__")
        groups[group][name] = value  # type: ignore[index, call-overload]
    return groups


def saved(folder: Path, *, size: list[int] | None = None, classes: Sequence[str] = "abc", **changes: Any) -> "Network":
    """A small network with random weights, saved as a run saves its own."""
    from segmentation.models.files import save_model
    from segmentation.models.network import build_network

    settings = model("test_resnet", **changes)
    network = build_network(settings, len(classes)).eval()
    colours = [[40 * index % 256, 0, 0] for index in range(len(classes))]
    meta = {"classes": list(classes), "colours": colours, "ignore_index": 255, "size": size}
    meta |= {"channels": 3, "white": None, "shown": None}
    save_model(network, folder, model=settings, meta=meta)
    return network
