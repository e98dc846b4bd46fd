"""The end of hopeless trials: what runs inside a training that is a trial of a study."""

import pytorch_lightning as pl
from optuna import load_study
from optuna.pruners import BasePruner
from optuna.trial import Trial

PRUNED = "pruned"  # the attribute of a trial that was stopped early


class Prune(pl.Callback):
    """Tells a study how its trial goes after each validation, and stops the training where the pruner says so.

    Args:
        storage: SQLAlchemy URL of the study.
        study: its name.
        trial: the trial's identifier in the storage.
        pruner: decides.
        monitor: the value that is told.
    """

    def __init__(self, storage: str, study: str, trial: int, pruner: BasePruner, monitor: str) -> None:
        self.trial = Trial(load_study(study_name=study, storage=storage, pruner=pruner), trial)
        self.monitor = monitor
        self.trial.set_user_attr(PRUNED, False)  # of a start that was killed

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        hopeless = False
        if trainer.is_global_zero and self.monitor in trainer.callback_metrics:
            self.trial.report(trainer.callback_metrics[self.monitor].item(), trainer.current_epoch)
            hopeless = self.trial.should_prune()
            if hopeless:
                self.trial.set_user_attr(PRUNED, True)
        trainer.should_stop |= trainer.strategy.broadcast(hopeless)
