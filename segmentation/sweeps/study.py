"""A search: Optuna is asked for each trial and told what came of it; Hydra's launchers run the trials."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.plugins.launcher import Launcher
from hydra.utils import instantiate
from optuna import Study
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import BaseTrial, TrialState

from segmentation.errors import UserError
from segmentation.monitoring import better
from segmentation.sweeps.jobs import Job, Outcome, run_jobs
from segmentation.sweeps.ledger import Ledger, identity
from segmentation.sweeps.pruning import PRUNED
from segmentation.sweeps.search import as_overrides, as_word, lowest, score
from segmentation.whole import write_text

SEARCH, FOLDER = "search", "folder"  # attributes of a study and of a trial: what is searched, and whose trial it is


@dataclass
class Search:
    """A study in a sweep's folder.

    Args:
        folder: of the sweep; a trial's run goes to the folder of its number.
        launcher: runs the trials.
        compose: words of a command line to the configuration, unresolved.
        fixed: words that all trials share.
        space: key -> what it may be.
        monitor: the value of the validation by which trials are judged.
        trials: how many in all, those before a resume included.
        size: how many side by side.
        storage: SQLAlchemy URL.
        name: of the study in its storage.
        sampler: an Optuna sampler as `_target_` and arguments.
        pruner: an Optuna pruner likewise.
    """

    folder: Path
    launcher: Launcher
    compose: Callable[[list[str]], dict[str, Any]]
    fixed: list[str]
    space: dict[str, BaseDistribution]
    monitor: str
    trials: int
    size: int
    storage: str
    name: str
    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any]

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder)

    def run(self) -> list[Outcome]:
        """Ask, run and tell until there are as many trials as wanted."""
        study = self.open_study()
        outcomes = self.run_trials(study)
        self.report(study)
        return outcomes

    def open_study(self) -> Study:
        """The study in its storage, made where it is not there.

        Raises:
            UserError: where the storage holds another search under this name.
        """
        self.compose(
            [*self.fixed, *as_overrides(lowest(self.space))]
        )  # a misspelt key ends the search before it begins
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            study_name=self.name,
            storage=self.storage,
            direction="minimize" if better(self.monitor) == "min" else "maximize",
            load_if_exists=True,
        )
        own = {key: json.loads(distribution_to_json(where)) for key, where in self.space.items()}
        own |= {"everything else": identity(self.compose(self.fixed))}
        known = study.user_attrs.get(SEARCH, own)
        for key in sorted(known.keys() | own.keys()):
            if known.get(key) != own.get(key):
                raise UserError(
                    f"{self.storage}: its study {self.name!r} searches with another {key}; "
                    "give it as it was, or choose another hydra.sweeper.study or hydra.sweep.dir"
                )
        study.set_user_attr(SEARCH, own)
        # A sampler that began anew with its seed would repeat the first trials of a study that goes on.
        seed = self.sampler.get("seed")
        shifted = {} if seed is None else {"seed": seed + len(study.trials)}
        study.sampler = instantiate(self.sampler, **shifted)
        return study

    def run_trials(self, study: Study) -> list[Outcome]:
        """Run what a killed sweep left running, then new trials until there are enough, failed ones among them."""
        waiting: list[BaseTrial] = [
            trial for trial in study.get_trials(states=(TrialState.RUNNING,)) if self.owns(trial)
        ]
        if study.trials:
            done = self.done(study)
            print(f"{self.folder}: {done} of {self.trials} trials had finished, {max(0, self.trials - done)} to run")
        outcomes: list[Outcome] = []
        failed = 0
        while (size := min(self.size, self.trials - self.done(study) - failed)) > 0:
            batch, waiting = waiting[:size], waiting[size:]
            batch += [self.ask(study) for _ in range(size - len(batch))]
            jobs = [self.job(trial) for trial in batch]
            missing = [job for job in jobs if not job.finished]
            outcomes += run_jobs(self.launcher, missing, size, self.ledger, first=batch[0].number)
            failed += sum(not self.tell(study, trial, job) for trial, job in zip(batch, jobs, strict=True))
        return outcomes

    def done(self, study: Study) -> int:
        """How many trials have ended, and those that other sweeps on the same study are running."""
        trials = study.get_trials(deepcopy=False)
        ended = (TrialState.COMPLETE, TrialState.PRUNED)
        return sum(
            trial.state in ended or (trial.state is TrialState.RUNNING and not self.owns(trial)) for trial in trials
        )

    def ask(self, study: Study) -> BaseTrial:
        """A new trial, marked as this sweep's."""
        trial = study.ask(self.space)
        trial.set_user_attr(FOLDER, str(self.folder.resolve()))
        return trial

    def owns(self, trial: BaseTrial) -> bool:
        """Whether this sweep asked for the trial."""
        return bool(trial.user_attrs.get(FOLDER) == str(self.folder.resolve()))

    def job(self, trial: BaseTrial) -> Job:
        """What runs a trial: its parameters, and the callback that may end it early."""
        callback = {
            "_target_": "segmentation.sweeps.pruning.Prune",
            "storage": self.storage,
            "study": self.name,
            "trial": trial._trial_id,  # type: ignore[attr-defined]  # the only name a storage knows it by
            "pruner": self.pruner,
            "monitor": "${monitor}",
        }
        words = [*self.fixed, *as_overrides(trial.params), f"+callbacks.prune={as_word(callback)}"]
        config = self.compose(words)
        return Job(words, config, identity(config), self.folder / str(trial.number))

    def tell(self, study: Study, trial: BaseTrial, job: Job) -> bool:
        """What came of a trial, from the files of its run; whether it ended."""
        try:
            value = score(job.folder, self.monitor) if job.finished else None
        except UserError as error:
            print(f"{job.folder}: {error}", file=sys.stderr)
            value = None
        if value is None:
            study.tell(trial.number, state=TrialState.FAIL)
        elif study.trials[trial.number].user_attrs.get(PRUNED):
            study.tell(trial.number, state=TrialState.PRUNED)
        else:
            study.tell(trial.number, value)
        return value is not None

    def report(self, study: Study) -> None:
        """The best trial, in the terminal and in best.json."""
        states = [trial.state.name.lower() for trial in study.trials]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        if not study.get_trials(states=(TrialState.COMPLETE,)):
            print(f"{self.folder}: no trial has ended ({counts})")
            return
        best = study.best_trial
        folder = Path(best.user_attrs[FOLDER]) / str(best.number)
        found = {"trial": best.number, "value": best.value, "params": best.params, "folder": str(folder)}
        write_text(self.folder / "best.json", json.dumps(found, indent=2) + "\n")
        print(f"best of {len(states)} trials ({counts}): {best.value:.4f} in {folder}")
        print(f"  {' '.join(as_overrides(best.params))}")
