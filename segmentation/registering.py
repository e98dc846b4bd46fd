"""What Hydra is told before it composes: the schemas by name, the sweepers, and the resolver `better`."""

from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from segmentation.config import SCHEMAS
from segmentation.monitoring import better

# Hydra takes plugins from the package `hydra_plugins` only; installing puts segmentation/sweeps/plugin there.
SWEEPERS: dict[str, dict[str, Any]] = {
    "segmentation": {
        "_target_": "hydra_plugins.segmentation_sweeper.SegmentationSweeper",
        "max_batch_size": None,
        "params": None,
    },
    "segmentation_optuna": {
        "_target_": "hydra_plugins.segmentation_optuna.OptunaSweeper",
        "_recursive_": False,
        "max_batch_size": 1,  # trials side by side, where the launcher can
        "params": None,  # key -> its range, as on the command line
        "trials": 20,  # in all, those before a resume included
        "storage": None,  # an SQLAlchemy URL; null: SQLite in the sweep's folder
        "study": "search",
        "sampler": {"_target_": "optuna.samplers.TPESampler", "seed": 0},
        "pruner": {"_target_": "optuna.pruners.MedianPruner", "n_warmup_steps": 2},
    },
}


def register() -> None:
    """Make the schemas known to Hydra; the primary YAML of each command names its own first."""
    store = ConfigStore.instance()
    for name, sweeper in SWEEPERS.items():
        store.store(group="hydra/sweeper", name=name, node=sweeper)
    for name, schema in SCHEMAS.items():
        store.store(name=f"{name}_schema", node=schema)
    OmegaConf.register_new_resolver("better", better, replace=True)
