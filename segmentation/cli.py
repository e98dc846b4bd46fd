"""How a command meets its user: Hydra composes the configuration, and every mistake ends in one line.

Nothing heavy is imported here, so that a misspelt option answers at once.
"""

import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from segmentation.config import CONF, SCHEMAS, register
from segmentation.errors import UserError, nearest
from segmentation.faults import describe, spare_threads
from segmentation.ranges import check_values, shown
from segmentation.unused import warn_of_unused
from segmentation.usage import usage

log = logging.getLogger(__name__)
TRACEBACK = "HYDRA_FULL_ERROR"  # Hydra's own switch: set by the user, it shows the traceback of any error
# The first process of a distributed run writes its configuration and log; the others would only write beside it.
# What tells a process of a distributed run which it is: Lightning and torchrun by the first three, Slurm by the last.
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
LAUNCHED = (*RANKS, "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_NTASKS")
OTHER_RANK = ["hydra.output_subdir=null", "hydra/job_logging=stdout"]
PLUGINS = {name: f"hydra-{name}-launcher" for name in ("joblib", "submitit", "ray")} | {"ray": "hydra-ray-launcher ray"}
NAMELESS = re.compile(r"[+~]*=")  # words without a key, in whose errors Hydra names nothing
OURS = "SEGMENTATION_ONE_LINE_ERRORS"  # tells the processes that a run starts that the switch is not the user's


def command(name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make a function of the composed configuration a command-line program with `conf/<name>.yaml` as its default."""

    def decorate(function: Callable[[DictConfig], None]) -> Callable[[], None]:
        def job(config: DictConfig) -> None:
            register()  # a launcher may have started a process of its own for the job
            try:
                composed.append(True)
                warn_of_unused(name, HydraConfig.get().overrides.task)
                function(checked(config, name))
            except Exception as error:
                # In a sweep Hydra collects what its jobs raise, so only a single run may end here.
                hydra_config = HydraConfig.get()
                if hydra_config.mode is RunMode.RUN and not shows_traceback:
                    end(error, name)
                log.error(f"job {hydra_config.job.num} failed: {explain(error, name) or repr(error)}")
                let_go(error)
                raise

        composed: list[bool] = []  # whatever fails before is the command line's fault
        shows_traceback = os.environ.get(TRACEBACK) == "1" and OURS not in os.environ

        def main() -> None:
            register()
            logging.raiseExceptions = False  # a log on a full disk is not worth a traceback
            spare_threads()
            if sys.argv[1:] in (["--help"], ["-h"]):
                print(usage(name))
                return
            if not is_first_process():
                sys.argv += OTHER_RANK
            if not shows_traceback:
                os.environ[OURS] = os.environ[TRACEBACK] = "1"  # Hydra hands errors on to us, whole
            try:
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()
            except KeyboardInterrupt:
                raise SystemExit(130) from None  # as a shell has it; whoever pressed Ctrl-C knows why
            except Exception as error:
                if shows_traceback:
                    raise
                if not composed:
                    raise SystemExit(f"error: {refused(error, name)}") from None
                end(error, name)

        return main

    return decorate


def checked(config: DictConfig, name: str) -> DictConfig:
    """The composed configuration of a command, or a UserError for what is missing of it, or cannot be meant."""
    check_complete(config, OmegaConf.structured(SCHEMAS[name]))
    check_values(config)
    return config


def check_complete(config: DictConfig, schema: DictConfig, prefix: str = "") -> None:
    """Raise a UserError for a key that `~key` took out; a command counts on every one of its schema."""
    there = set(config.keys())  # `in` would deny those that are not set
    for key in map(str, schema):
        if key not in there:
            raise UserError(f"{prefix}{key}: cannot be taken out; give it a value instead, {prefix}{key}=...")
        inner, ours = (None if OmegaConf.is_missing(node, key) else node._get_node(key) for node in (schema, config))
        if isinstance(inner, DictConfig) and isinstance(ours, DictConfig) and OmegaConf.get_type(inner) is not dict:
            check_complete(ours, inner, f"{prefix}{key}.")


def refused(error: Exception, name: str) -> str:
    """One line about a command line that Hydra could not compose a configuration from."""
    line = explain(error, name)
    if line is None:
        words = shown(" ".join([word for word in sys.argv[1:] if NAMELESS.match(word)] or sys.argv[1:]))
        line = f"{words}: no configuration can be composed of this ({_one_line(str(error))[:200]}); see --help"
    return line


def is_first_process() -> bool:
    """Whether this is the only process of a run, or the first of several."""
    return all(os.environ.get(rank, "0") == "0" for rank in RANKS)


def let_go(error: BaseException) -> None:
    """Free what the frames of an error hold, its network and data among it: Hydra keeps the errors of a sweep."""
    for cause in _causes(error):
        traceback.clear_frames(cause.__traceback__)


def end(error: Exception, name: str) -> NoReturn:
    """Leave with one line if the error is the user's to mend; hand it on with its traceback if it is ours."""
    line = explain(error, name)
    if line is None:
        raise error
    sys.stdout.flush()
    raise SystemExit(f"error: {line}")


def explain(error: BaseException, name: str) -> str | None:
    """One line about a user's mistake, or None for an error that is not one."""
    chain = list(_causes(error))
    if told := [cause for cause in chain if isinstance(cause, UserError)]:
        # The last one knows most. What a DataLoader's worker raises has its traceback as text before the message.
        return _one_line(str(told[-1]).rpartition("UserError: ")[2])
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
                return f"{cause.full_key}: {_one_line(cause.msg or str(cause))}"
            case _ if fault := describe(cause):
                return fault
    if isinstance(error, HydraException | OmegaConfBaseException):
        unmatched = re.match(r"Could not override '([^'@]+)", str(error))
        if unmatched:
            return _unknown_key(unmatched[1], name)
        return _one_line(str(error))
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The root cause first: it knows the key, where what wraps it only says that something failed."""
    if error.__cause__ is not None:
        yield from _causes(error.__cause__)
    yield error


def _one_line(message: str) -> str:
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
