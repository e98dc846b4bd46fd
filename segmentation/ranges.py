"""What the values of a configuration may be, each said once.

Asked right after Hydra has composed it, before anything heavy is imported. What only an object built from the values
can know (that a stride fits a map, that a fold is one of so many) is said where it is built.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from segmentation.errors import UserError, nearest

ABSENT = object()
LONGEST = 60  # characters of a value that an error repeats
MOST_PIXELS = 178_956_970  # of an image the network sees; Pillow's own limit
SIDE = 65_536  # pixels
SCORED = ("loss", "pixel_accuracy", "mean_accuracy", "mean_iou", "mean_dice")  # in a validation
MONITORS = (*(f"val/{name}" for name in SCORED), "train/loss", "train/pixel_accuracy")


class Rule(NamedTuple):
    fits: Callable[[Any], bool]
    wanted: str  # completes "give ..."


def whole(least: int, most: int, *words: str | None) -> Rule:
    """A whole number from `least` to `most`, or one of the words."""
    return Rule(
        lambda value: value in words if value is None or isinstance(value, str) else _whole(value, least, most),
        f"a whole number from {least:,} to {most:,}{_or(words)}",
    )


def number(least: float, most: float = math.inf, *words: str | None, above: bool = False) -> Rule:
    """A finite number from `least`, or `above` it, to `most`, or one of the words."""
    return Rule(
        lambda value: value in words if value is None or isinstance(value, str) else _number(value, least, most, above),
        f"a number {'above' if above else 'from'} {least:g}{f' to {most:g}' if most < math.inf else ''}{_or(words)}",
    )


def sides() -> Rule:
    """Height and width of what a network sees, or null."""

    def fits(value: Any) -> bool:
        pair = isinstance(value, list) and len(value) == 2 and all(_whole(side, 1, SIDE) for side in value)
        return value is None or (pair and math.prod(value) <= MOST_PIXELS)

    return Rule(fits, "[height,width] in pixels, or null")


def listed(inner: Rule, *, or_one: bool = False) -> Rule:
    """A list, not empty, of what another rule wants, `or_one` of it alone."""

    def fits(value: Any) -> bool:
        several = isinstance(value, list) and bool(value) and all(inner.fits(part) for part in value)
        return several or (or_one and not isinstance(value, list) and inner.fits(value))

    return Rule(fits, f"{inner.wanted}, or a list of such" if or_one else f"a list, each {inner.wanted}")


def one_of(*names: Any) -> Rule:
    """One of these."""
    return Rule(
        lambda value: value in names, "one of " + ", ".join("null" if name is None else str(name) for name in names)
    )


def part(*, optional: bool = False) -> Rule:
    """What is built from a `_target_`."""
    return Rule(
        lambda value: _is_part(value) or (optional and not value), "a choice of this group, or a _target_ of your own"
    )


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(value: Any, least: float, most: float, above: bool) -> bool:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return fine and (least < value if above else least <= value) and value <= most


def _is_part(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("_target_"), str)


def _or(words: tuple[str | None, ...]) -> str:
    return "".join(f", or {'null' if word is None else word}" for word in words)


WORD = Rule(lambda value: isinstance(value, str) and bool(value.strip()), "a name")
RULES: Mapping[str, Rule] = {
    "seed": whole(0, 2**32 - 1),
    "find": one_of("lr", "batch_size", None),
    "monitor": one_of(*MONITORS),
    "data.size": sides(),
    "data.channels": whole(1, 1024),
    "data.fold_seed": whole(0, 2**63),
    "data.limit": whole(1, 2**31, None),
    "data.cache_gib": number(0),
    "data.batch_size": whole(1, 2**20),
    "data.eval_batch_size": whole(1, 2**20),
    "data.num_workers": whole(0, 1024, "auto"),
    "data.reader": part(optional=True),
    "data.classes": listed(WORD),
    "backbone.output_stride": one_of(8, 16, 32, None),
    "backbone.args.drop_rate": number(0, 1),
    "backbone.args.drop_path_rate": number(0, 1),
    "decoder": part(),
    "lstm.order": listed(WORD, or_one=True),
    "lstm.hidden_size": whole(1, 2**16),
    "lstm.num_layers": whole(1, 64),
    "lstm.chunk": whole(1, 2**31, None),
    "lstm.stride": whole(1, SIDE, "auto", None),
    "loss": part(),
    "aux": part(optional=True),
    "optimizer.lr": number(0, above=True),
    "optimizer.backbone_lr_factor": number(0),
    "optimizer.layer_decay": number(0, 1, above=True),
    "optimizer.weight_decay": number(0),
    "scheduler": part(),
    "scheduler.power": number(0),
    "trainer.max_epochs": whole(1, 2**31),
    "trainer.num_nodes": whole(1, 2**16),
    "trainer.accumulate_grad_batches": whole(1, 2**20),
    "trainer.gradient_clip_val": number(0, math.inf, None),
    "trainer.args.overfit_batches": Rule(lambda value: value == 0, "0, and few images by data.limit=..."),
    "callbacks.progress.refresh_rate": whole(0, 1000),
    "batch_size": whole(1, 2**20),
    "window.size": sides(),
    "tta.scales": listed(number(0, 16, above=True)),
    "fps": number(0, 1000, None, above=True),
    "max_pixels": whole(1, 2**40),
    "size": sides(),
    "tolerance": number(0),
    "benchmark.repetitions": whole(1, 10_000),
}  # by key, of whichever command has it

GROUPS = ("augment", "callbacks", "logger", "benchmark.sections")  # names, each with what is built from a `_target_`


def check_values(config: DictConfig) -> None:
    """Raise a UserError for the first value that is out of its range; keys that are not set, or not there, pass."""
    for key, rule in RULES.items():
        value = OmegaConf.select(config, key, default=ABSENT)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=True)
        if value is not ABSENT and not rule.fits(value):
            hint = f"; {nearest(value, MONITORS)}" if key == "monitor" else ""
            raise UserError(f"{key}={shown(value)}: give {rule.wanted}{hint}")
    for group in GROUPS:
        for name, value in (OmegaConf.select(config, group) or {}).items():
            if not isinstance(value, DictConfig) or not isinstance(value.get("_target_"), str):
                raise UserError(f"{group}.{name}={shown(value)}: give it a _target_, or take it out by ~{group}.{name}")
    check_void(config)
    data = OmegaConf.select(config, "data")
    if data is not None and data.folds is None and (data.fold or data.fold_seed):
        key = "fold" if data.fold else "fold_seed"
        raise UserError(f"data.{key}={data[key]}: there are no folds; say how many by data.folds=...")


def check_void(config: DictConfig) -> None:
    """Raise a UserError for a loss that takes another label for void than the data set."""
    loss, label = OmegaConf.select(config, "loss"), OmegaConf.select(config, "data.ignore_index")
    for path, value in _leaves(OmegaConf.to_container(loss, resolve=True), "loss") if loss else ():
        if path.endswith(".ignore_index") and value != label:
            raise UserError(f"{path}={shown(value)}: data.ignore_index is {label}; leave this out, or change that")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}")
    else:
        yield path, value


def shown(value: Any) -> str:
    """A value as an error repeats it: on one line, and not for ever."""
    text = " ".join(str("null" if value is None else value).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
