"""`--help` of every command: its groups and their choices, and every key with its default.

Hydra's own takes one and a half seconds, most of it for listing groups of its own that nobody chooses from.
"""

import hydra
import yaml
from omegaconf import OmegaConf

from segmentation.config import CONF, SCHEMAS

TEMPLATE = """{purpose}

usage: python -m segmentation.{name} [group=choice] [key=value] ...

groups and their choices:
{groups}

keys and their defaults:
{keys}
--cfg job prints what an invocation would run with, --hydra-help what Hydra itself can be told."""


def usage(name: str) -> str:
    """The text for a command."""
    primary = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    named = [next(iter(entry)).removeprefix("optional ") for entry in primary["defaults"] if isinstance(entry, dict)]
    folders = {group: CONF / group for group in named if (CONF / group).is_dir()}
    choices = {group: sorted(path.stem for path in folder.glob("*.yaml")) for group, folder in folders.items()}
    groups = "\n".join(f"  {group + '=':<14}{' '.join(found)}" for group, found in choices.items())
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        keys = OmegaConf.to_yaml(hydra.compose(name))
    indented = "".join(f"  {line}" for line in keys.splitlines(keepends=True))
    purpose = " ".join((SCHEMAS[name].__doc__ or "").split())
    return TEMPLATE.format(name=name, purpose=purpose, groups=groups, keys=indented)
