"""Mixed precision without casting the same weights for every image."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision


class KeptCasts(MixedPrecision):
    """Lightning's mixed precision, which in validation and test lets autocast keep its casts of weights.

    Lightning forbids it that: in training it could hand a cast made without gradients to a step that needs them.
    Checkpoints know it, and the scale of fp16 in it, by the name of Lightning's own.
    """

    __qualname__ = MixedPrecision.__qualname__

    @contextmanager
    def val_step_context(self) -> Iterator[None]:
        with super().val_step_context(), kept_casts():
            yield

    @contextmanager
    def test_step_context(self) -> Iterator[None]:
        with super().test_step_context(), kept_casts():
            yield


@contextmanager
def kept_casts() -> Iterator[None]:
    """Let autocast keep casts of weights; it does so under `torch.no_grad`, never in `torch.inference_mode`."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(True)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


class CastOnce(pl.Callback):
    """In validation and test, weights are cast to the lower precision once, not at every step.

    Autocast forgets its casts when its outermost context ends, which this puts around the whole evaluation: for a
    ResNet50 that saves 100 MB read and 50 written an image.

    First among the callbacks: averaged weights are put in before the first step, and what comes after the last one
    runs outside. Between steps no weight may change in place, and what other callbacks compute runs in autocast too.
    Frozen weights are cast every time: autocast keeps only those that learn.
    """

    def __init__(self) -> None:
        self.stack = ExitStack()

    def open(self, trainer: pl.Trainer) -> None:
        plugin = trainer.precision_plugin
        if isinstance(plugin, KeptCasts):
            self.stack.enter_context(plugin.forward_context())

    def on_validation_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.open(trainer)

    def on_test_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.open(trainer)

    def on_validation_epoch_end(self, *_: Any) -> None:
        self.stack.close()

    def on_test_epoch_end(self, *_: Any) -> None:
        self.stack.close()

    def on_exception(self, *_: Any) -> None:
        self.stack.close()


def keep_casts(trainer: pl.Trainer) -> None:
    """Give a Trainer of mixed precision, but for a strategy with a precision of its own, the plugin for `CastOnce`."""
    plugin = trainer.precision_plugin
    if type(plugin) is MixedPrecision:
        precision: Any = plugin.precision
        trainer.strategy.precision_plugin = KeptCasts(precision, plugin.device, plugin.scaler)
