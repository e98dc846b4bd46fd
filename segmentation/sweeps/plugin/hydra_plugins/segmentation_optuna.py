"""A Hydra sweeper that searches by Optuna.

Hydra imports this at every start, so Optuna is imported where it is used.
"""

from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from segmentation.errors import UserError
from segmentation.sweeps.jobs import conclude, refuse_used
from segmentation.sweeps.ledger import Ledger


class OptunaSweeper(BasicSweeper):
    """Searches the ranges of the command line and of `params` for the best `monitor` of the validation.

    Args:
        max_batch_size: trials side by side.
        params: key -> its range, as on the command line.
        trials: in all, those before a resume included.
        storage: SQLAlchemy URL; None is SQLite in the sweep's folder.
        study: its name in the storage.
        sampler: an Optuna sampler as `_target_` and arguments.
        pruner: an Optuna pruner likewise.
    """

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None,
        trials: int,
        storage: str | None,
        study: str,
        sampler: DictConfig,
        pruner: DictConfig,
    ) -> None:
        super().__init__(max_batch_size, params)
        self.trials, self.storage, self.study = trials, storage, study
        self.sampler: Any = OmegaConf.to_container(sampler, resolve=True)
        self.pruner: Any = OmegaConf.to_container(pruner, resolve=True)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the trials.

        Raises:
            UserError: without Optuna or a range, for a folder that holds a sweep already, and at the end where a job
                failed.
        """
        try:
            from segmentation.sweeps.search import find_space
            from segmentation.sweeps.study import Search
        except ModuleNotFoundError as error:
            raise UserError(f"sweeper=optuna: needs {error.name}; pip install optuna") from error
        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed = parser.parse_overrides([*self._parse_config(), *arguments])
        overrides = list({override.get_key_element(): override for override in parsed}.values())  # the last one counts
        space = find_space(overrides)
        fixed = [override.input_line or "" for override in overrides if not override.is_sweep_override()]
        shared = self.compose(fixed)
        folder = Path(self.config.hydra.sweep.dir)
        refuse_used(folder, Ledger(folder), [shared])
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        search = Search(
            folder=folder,
            launcher=self.launcher,
            compose=self.compose,
            fixed=fixed,
            space=space,
            monitor=shared["monitor"],
            trials=self.trials,
            size=self.max_batch_size or 1,
            storage=self.storage or f"sqlite:///{folder.resolve()}/study.db",
            name=self.study,
            sampler=self.sampler,
            pruner=self.pruner,
        )
        outcomes = search.run()
        conclude(folder, outcomes, self.trials, repeat="to try others in their place")
        return [outcome.result for outcome in outcomes]

    def compose(self, words: list[str]) -> dict[str, Any]:
        """The configuration of a job, unresolved."""
        assert self.hydra_context is not None
        assert self.config is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, words)
        return OmegaConf.to_container(config, resolve=False)  # type: ignore[return-value]
