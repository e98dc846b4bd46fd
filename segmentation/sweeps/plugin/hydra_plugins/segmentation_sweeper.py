"""Hydra's grid sweeper, made to survive: it resumes, gives each configuration one folder, and ends with what failed.

Hydra takes plugins from the package `hydra_plugins` only and imports them at every start, so nothing heavy is imported.
"""

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from segmentation.cli import explain
from segmentation.errors import UserError
from segmentation.sweeps.ledger import Ledger, identity, is_finished


@dataclass
class Job:
    """A configuration of the grid and the folder that is its own."""

    overrides: list[str]
    config: dict[str, Any]
    identity: str
    folder: Path

    @property
    def finished(self) -> bool:
        return is_finished(self.folder, test=self.config.get("test", True))


class SegmentationSweeper(BasicSweeper):
    """Runs what is missing of the grid that the command line and `hydra.sweeper.params` span."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs, at most `max_batch_size` of them at a time.

        Raises:
            UserError: for a folder that holds a sweep already, and at the end where a job failed.
        """
        assert self.config is not None
        folder = Path(self.config.hydra.sweep.dir)
        ledger = Ledger(folder)
        jobs = self.plan(arguments, ledger)
        resumes = any(job.config.get("resume", False) for job in jobs)
        if ledger.folders() and not resumes:
            raise UserError(f"{folder}: holds a sweep already; add resume=true, or choose another hydra.sweep.dir")
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        missing = [job for job in jobs if not job.finished]
        if resumes:
            print(f"{folder}: {len(jobs) - len(missing)} of {len(jobs)} jobs had finished, {len(missing)} to run")
        for job in missing:
            ledger.write("planned", job=job.folder.name, identity=job.identity, overrides=job.overrides)
        failures = {}
        returns = []
        for job, result in self.launch(missing):
            returns.append(result)
            reason = why_failed(result)
            ledger.write("failed" if reason else "finished", job=job.folder.name, reason=reason)
            if reason:
                failures[job.folder] = f"{' '.join(job.overrides)}: {reason}"
        if failures:
            for place, reason in failures.items():
                print(f"failed: {place}: {reason}", file=sys.stderr)
            raise UserError(f"{len(failures)} of {len(jobs)} jobs failed; to run them again: {again(folder)}")
        return returns

    def plan(self, arguments: list[str], ledger: Ledger) -> list[Job]:
        """Every configuration of the grid with the folder it had before, or the next number that is free."""
        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        overrides = OverridesParser.create(config_loader=loader).parse_overrides([*self._parse_config(), *arguments])
        known = ledger.folders()
        free = max((int(name) for name in known.values() if name.isdecimal()), default=-1) + 1
        jobs = []
        for batch in self.split_arguments(overrides, None):
            for words in batch:
                # Composed here, a mistake in any job ends the sweep before its first.
                config: Any = OmegaConf.to_container(loader.load_sweep_config(self.config, words), resolve=False)
                own = identity(config)
                if own not in known:
                    known[own], free = str(free), free + 1
                jobs.append(Job(words, config, own, Path(self.config.hydra.sweep.dir) / known[own]))
        return jobs

    def launch(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, JobReturn]]:
        """Hand jobs to whatever launcher is configured: one by one to Hydra's own, which runs them in turn, so that
        each is in the ledger as soon as it ends; to others as many together as they may have.
        """
        assert self.launcher is not None
        size = self.max_batch_size or (1 if isinstance(self.launcher, BasicLauncher) else max(1, len(jobs)))
        for start in range(0, len(jobs), size):
            batch = jobs[start : start + size]
            words = [[*job.overrides, f"hydra.sweep.subdir={job.folder.name}"] for job in batch]
            yield from zip(batch, self.launcher.launch(words, initial_job_idx=start), strict=True)


def why_failed(result: JobReturn) -> str | None:
    """One line about a job that failed."""
    if result.status is JobStatus.COMPLETED:
        return None
    cause = result._return_value
    reason = explain(cause, "train") if isinstance(cause, Exception) else None
    return " ".join((reason or f"{type(cause).__name__}: {cause}").split())[:300]


def again(folder: Path) -> str:
    """The command line that runs what is missing."""
    own = [word for word in sys.argv[1:] if not word.startswith(("hydra.sweep.dir=", "resume="))]
    return shlex.join(["python", "-m", "segmentation.train", *own, f"hydra.sweep.dir={folder}", "resume=true"])
