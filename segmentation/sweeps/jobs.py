"""A sweep's jobs: run by whatever launcher is configured, and summed up where some failed."""

import logging
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from segmentation.errors import UserError
from segmentation.mistakes import explain
from segmentation.slurm import requeued
from segmentation.sweeps.ledger import Ledger, is_finished

log = logging.getLogger(__name__)


@dataclass
class Job:
    """A configuration and the folder that is its own."""

    overrides: list[str]
    config: dict[str, Any]
    identity: str
    folder: Path

    @property
    def finished(self) -> bool:
        return is_finished(self.folder, test=self.config.get("test", True))


@dataclass
class Outcome:
    """What became of a job."""

    job: Job
    reason: str | None  # why it failed
    result: JobReturn | None  # as its launcher gave it, made slim


def run_jobs(
    launcher: Launcher, jobs: Sequence[Job], size: int, ledger: Ledger, *, first: int = 0
) -> Iterator[Outcome]:
    """Hand over `size` jobs at a time, numbered from `first` on, and write in the ledger what becomes of each."""
    for job in jobs:
        ledger.write("planned", job=job.folder.name, identity=job.identity, overrides=job.overrides)
    for start in range(0, len(jobs), size):
        for outcome in run_batch(launcher, jobs[start : start + size], first + start):
            event = "failed" if outcome.reason else "finished"
            try:
                ledger.write(event, job=outcome.job.folder.name, reason=outcome.reason)
            except OSError as error:  # a full disk ends no sweep: the line only tells the story
                log.error(f"{ledger.path}: {error.strerror}; not written: {outcome.job.folder.name} {event}")
            yield outcome


def run_batch(launcher: Launcher, jobs: Sequence[Job], number: int) -> list[Outcome]:
    """Run jobs together; those that a failing launcher (a process killed, a node lost) leaves, once more, each alone.

    A job that is still running elsewhere refuses to run twice, and says so.
    """
    words = [[*job.overrides, f"hydra.sweep.subdir={job.folder.name}"] for job in jobs]
    try:
        results = launcher.launch(words, initial_job_idx=number)
    except Exception as error:
        said = explain(error, "train") or f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        log.error(f"the launcher failed: {said}")
        if len(jobs) == 1:
            return [Outcome(jobs[0], None if jobs[0].finished else f"its process ended ({said})", None)]
        alone = [[Outcome(job, None, None)] if job.finished else run_batch(launcher, [job], number) for job in jobs]
        return [outcome for outcomes in alone for outcome in outcomes]
    return [Outcome(job, why_failed(result), slim(result)) for job, result in zip(jobs, results, strict=True)]


def slim(result: JobReturn) -> JobReturn:
    """Without its configurations, and a failure without the error, whose traceback holds the network: a sweep would
    keep those of hundreds of jobs.
    """
    result.cfg = result.hydra_cfg = None
    if result.status is not JobStatus.COMPLETED:
        result.return_value = None
    return result


def why_failed(result: JobReturn) -> str | None:
    """One line about a job that failed."""
    if result.status is JobStatus.COMPLETED:
        return None
    cause = result._return_value
    reason = explain(cause, "train") if isinstance(cause, Exception) else None
    return " ".join((reason or f"{type(cause).__name__}: {cause}").split())[:300]


def conclude(folder: Path, outcomes: Sequence[Outcome], total: int, *, repeat: str = "to run them again") -> None:
    """End a sweep: nothing where all went well, else what failed, why, and the command `repeat`.

    Raises:
        UserError: where a job failed.
    """
    failed = [outcome for outcome in outcomes if outcome.reason]
    for outcome in failed:
        print(f"failed: {outcome.job.folder}: {' '.join(outcome.job.overrides)}: {outcome.reason}", file=sys.stderr)
    if failed:
        raise UserError(f"{len(failed)} of {total} jobs failed; {repeat}: {again(folder)}")


def refuse_used(folder: Path, ledger: Ledger, configs: Sequence[Mapping[str, Any]]) -> None:
    """Raise a UserError for a folder that holds a sweep already, unless it is to be resumed."""
    if ledger.folders() and not requeued(folder) and not any(config.get("resume", False) for config in configs):
        raise UserError(f"{folder}: holds a sweep already; add resume=true, or choose another hydra.sweep.dir")


def again(folder: Path) -> str:
    """The command line that runs what is missing."""
    own = [word for word in sys.argv[1:] if not word.startswith(("hydra.sweep.dir=", "resume="))]
    return shlex.join(["python", "-m", "segmentation.train", *own, f"hydra.sweep.dir={folder}", "resume=true"])
