"""Hydra's grid sweeper, made to survive: it resumes, gives each configuration one folder, and ends with what failed.

Hydra takes plugins from the package `hydra_plugins` only and imports them at every start, so nothing heavy is imported.
"""

from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from segmentation.sweeps.jobs import Job, conclude, refuse_used, run_jobs
from segmentation.sweeps.ledger import Ledger, identity


class SegmentationSweeper(BasicSweeper):
    """Runs what is missing of the grid that the command line and `hydra.sweeper.params` span."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs, at most `max_batch_size` of them at a time.

        Raises:
            UserError: for a folder that holds a sweep already, and at the end where a job failed.
        """
        assert self.config is not None
        assert self.launcher is not None
        folder = Path(self.config.hydra.sweep.dir)
        ledger = Ledger(folder)
        jobs = self.plan(arguments, ledger)
        refuse_used(folder, ledger, [job.config for job in jobs])
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        missing = [job for job in jobs if not job.finished]
        if ledger.folders():
            print(f"{folder}: {len(jobs) - len(missing)} of {len(jobs)} jobs had finished, {len(missing)} to run")
        # Hydra's own launcher runs jobs in turn: one by one each is in the ledger as soon as it ends.
        size = self.max_batch_size or (1 if isinstance(self.launcher, BasicLauncher) else max(1, len(missing)))
        outcomes = list(run_jobs(self.launcher, missing, size, ledger))
        conclude(folder, outcomes, len(jobs))
        return [outcome.result for outcome in outcomes]

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
