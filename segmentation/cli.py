"""How a command meets its user: Hydra composes the configuration, and every mistake ends in one line.

Nothing heavy is imported here, so that a misspelt option answers at once.
"""

import copy
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ValidationError

from segmentation.config import CONF, SCHEMAS
from segmentation.errors import UserError
from segmentation.faults import spare_threads
from segmentation.loopback import listen
from segmentation.mistakes import causes, explain, refused
from segmentation.printable import spell_out_in_logs
from segmentation.ranges import check_values
from segmentation.registering import register
from segmentation.unused import warn_of_unused
from segmentation.usage import usage

log = logging.getLogger(__name__)
TRACEBACK = "HYDRA_FULL_ERROR"  # Hydra's own switch: set by the user, it shows the traceback of any error
# The first process of a distributed run writes its configuration and log; the others would only write beside it.
# What tells a process of a distributed run which it is: Lightning and torchrun by the first three, Slurm by the last.
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
LAUNCHED = (*RANKS, "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_NTASKS")
OTHER_RANK = ["hydra.output_subdir=null", "hydra/job_logging=stdout"]
OURS = "SEGMENTATION_ONE_LINE_ERRORS"  # tells the processes that a run starts that the switch is not the user's


def command(name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make a function of the composed configuration a command-line program with `conf/<name>.yaml` as its default."""

    def decorate(function: Callable[[DictConfig], None]) -> Callable[[], None]:
        def job(config: DictConfig) -> None:
            register()  # a launcher may have started a process of its own for the job
            spell_out_in_logs()
            try:
                composed.append(True)
                warn_of_unused(name, HydraConfig.get().overrides.task, config)
                ready = checked(config, name)
                listen(OmegaConf.select(ready, "trainer.num_nodes", default=1))
                function(ready)
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
                say(usage(name))
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
        if OmegaConf.is_interpolation(config, key):
            check_reference(config, schema, key, prefix)
        if isinstance(inner, DictConfig) and isinstance(ours, DictConfig) and OmegaConf.get_type(inner) is not dict:
            check_complete(ours, inner, f"{prefix}{key}.")


def check_reference(config: DictConfig, schema: DictConfig, key: str, prefix: str) -> None:
    """Raise a UserError for a `${...}` of another type; of a list Hydra asks only what is typed out."""
    try:
        copy.deepcopy(schema)[key] = config[key]
    except ValidationError as error:
        raise UserError(f"{prefix}{key}: {str(error).splitlines()[0]}") from error


def say(text: str) -> None:
    """Print to whoever listens: `| head` leaves before the end."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python says so again as it ends


def is_first_process() -> bool:
    """Whether this is the only process of a run, or the first of several."""
    return all(os.environ.get(rank, "0") == "0" for rank in RANKS)


def let_go(error: BaseException) -> None:
    """Free what the frames of an error hold, its network and data among it: Hydra keeps the errors of a sweep."""
    for cause in causes(error):
        traceback.clear_frames(cause.__traceback__)


def end(error: Exception, name: str) -> NoReturn:
    """Leave with one line if the error is the user's to mend; hand it on with its traceback if it is ours."""
    line = explain(error, name)
    if line is None:
        raise error
    sys.stdout.flush()
    raise SystemExit(f"error: {line}")
