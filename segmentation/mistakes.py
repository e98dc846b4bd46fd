"""What is said of an error: a user's mistake, or a fault of the machine, in one line."""

import re
import sys
from collections.abc import Iterator

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from segmentation.config import CONF, SCHEMAS
from segmentation.errors import UserError, nearest
from segmentation.faults import describe
from segmentation.printable import printable
from segmentation.ranges import shown

PLUGINS = {name: f"hydra-{name}-launcher" for name in ("joblib", "submitit", "ray")} | {"ray": "hydra-ray-launcher ray"}
NAMELESS = re.compile(r"[+~]*=")  # words without a key, in whose errors Hydra names nothing


def refused(error: Exception, name: str) -> str:
    """One line about a command line that Hydra could not compose a configuration from."""
    line = explain(error, name)
    if line is None:
        words = shown(" ".join([word for word in sys.argv[1:] if NAMELESS.match(word)] or sys.argv[1:]))
        line = f"{words}: no configuration can be composed of this ({one_line(str(error))[:200]}); see --help"
    return printable(line)


def explain(error: BaseException, name: str) -> str | None:
    """One line about a user's mistake, or None for an error that is not one."""
    line = _explain(error, name)
    return None if line is None else printable(line)


def _explain(error: BaseException, name: str) -> str | None:
    chain = list(causes(error))
    if told := [cause for cause in chain if isinstance(cause, UserError)]:
        # The last one knows most. What a DataLoader's worker raises has its traceback as text before the message.
        return one_line(str(told[-1]).rpartition("UserError: ")[2])
    for cause in chain:
        match cause:
            case MissingConfigException() if cause.options is not None and cause.missing_cfg_file:
                group, _, choice = str(cause.missing_cfg_file).removesuffix(".yaml").rpartition("/")
                plugin = choice.partition("_")[0]
                if group == "hydra/launcher" and plugin in PLUGINS:
                    return f"launcher={plugin}: its Hydra plugin is not installed; pip install {PLUGINS[plugin]}"
                return f"{group}={choice}: no such choice; {nearest(choice, cause.options)}"
            case OverrideParseException():
                key = str(cause.override).partition("=")[0]
                return (
                    f"{shown(cause.override) or 'an empty word'}: Hydra cannot read this override; "
                    f"quote its value twice, for the shell and for Hydra: '{shown(key)}=\"...\"'"
                )
            case MissingMandatoryValue():
                key = str(cause.full_key or cause.key)
                return f"{key}: not set; add {key}=..."
            case InterpolationToMissingValueError():  # the key that is missing is only in its words
                key = str(cause).partition("value: ")[2].split()[0]
                return f"{key}: not set; add {key}=..."
            case ConfigKeyError() | ConfigAttributeError() if cause.full_key or cause.key:
                return _unknown_key(str(cause.full_key or cause.key), name)
            case OmegaConfBaseException() if cause.full_key:
                return f"{cause.full_key}: {one_line(cause.msg or str(cause))}"
            case _ if fault := describe(cause):
                return fault
    if isinstance(error, HydraException | OmegaConfBaseException):
        unmatched = re.match(r"Could not override '([^'@]+)", str(error))
        if unmatched:
            return _unknown_key(unmatched[1], name)
        return one_line(str(error))
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """The root cause first: it knows the key, where what wraps it only says that something failed."""
    if error.__cause__ is not None:
        yield from causes(error.__cause__)
    yield error


def one_line(message: str) -> str:
    """The message without OmegaConf's tail of `full_key:` and `object_type=` lines, on a single line."""
    lines = [line.strip() for line in message.splitlines()]
    return " ".join(line for line in lines if line and not re.match(r"(full_key:|object_type=|reference_type=)", line))


def _unknown_key(key: str, name: str) -> str:
    """What to say of a key that is not there: the nearest that are, and how to add one where any may be added."""
    line = f"{key}: no such key; {nearest(key, _known_keys(name))}"
    place = OmegaConf.select(OmegaConf.structured(SCHEMAS[name]), key.rpartition(".")[0]) if "." in key else None
    if isinstance(place, DictConfig) and OmegaConf.get_type(place) is dict:
        return f"{line} To add it, write +{key}=..."
    return line


def _known_keys(name: str) -> set[str]:
    """Every key that can be set, in the groups that this command line chooses where those can be composed."""
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    chosen = [word for word in sys.argv[1:] if word.partition("=")[0] in groups and "," not in word]
    for overrides in (chosen, []):
        GlobalHydra.instance().clear()
        try:
            with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
                return groups | set(_paths(hydra.compose(name, overrides)))
        except Exception:
            continue
    return groups


def _paths(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in config:
        path = f"{prefix}{key!s}"
        yield path
        if not (OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, str(key))):
            node = config[key]
            if isinstance(node, DictConfig):
                yield from _paths(node, f"{path}.")
