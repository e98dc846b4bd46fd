"""Are the `_target_`s of a configuration there, and do they take the keywords given? Asked before data is read."""

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from hydra.utils import get_object, instantiate

from segmentation.errors import UserError, nearest
from segmentation.ranges import shown

T = TypeVar("T")
# What files from elsewhere may name.
TRUSTED = ("segmentation.models.", "segmentation.data.", "segmentation_models_pytorch.")
SIMPLE = {int, float, str, bool, type(None)}  # annotations that values are held against
# Hydra's own keywords beside `_target_`.
RESERVED = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


def check_targets(config: Any, path: str = "") -> None:
    """Raise a UserError for the first `_target_` in plain containers that cannot be imported or refuses a keyword."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            _check(config, path)
        for key, value in config.items():
            check_targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(config, Sequence) and not isinstance(config, str):
        for index, value in enumerate(config):
            check_targets(value, f"{path}[{index}]")


def build(config: Any, key: str, **keywords: Any) -> Any:
    """What a part of the configuration describes.

    Args:
        config: with a `_target_`, or a mapping of such.
        key: where it stands in the configuration.
        keywords: further ones of the target.

    Raises:
        UserError: if the target refuses its arguments.
    """
    try:
        return instantiate(config, **keywords)
    except UserError:
        raise
    except Exception as error:
        raise refusal(error, key) from error


@contextmanager
def refusing(key: str) -> Iterator[None]:
    """Make one line of what arguments out of the configuration end in, where the key says whose they are."""
    try:
        yield
    except (TypeError, ValueError, KeyError, AttributeError, ImportError) as error:
        raise refusal(error, key) from error


def refusal(error: Exception, key: str) -> UserError:
    """What a user can be told of an error that a part of his configuration ended in."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, UserError):
        return UserError(str(cause))  # anew: raised from what it caused, it would be its own cause
    return UserError(f"{key}: refuses its arguments: {' '.join(str(cause).split())[:300] or cause.__class__.__name__}")


def is_ours(name: str) -> bool:
    """Whether a dotted path from a file names what a trusted package defines, and nothing that it only imports: what is
    named is imported and called, so it could run any code.
    """
    return find_ours(name, lambda found: True)


def find_ours(name: str, fits: Callable[[Any], bool]) -> bool:
    """Whether a name is the project's own, as `is_ours`, and what it names is of the kind that is asked for."""
    module, _, attribute = name.rpartition(".")
    if not f"{module}.".startswith(TRUSTED):
        return False
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError):
        return False
    return f"{getattr(found, '__module__', '')}.".startswith(TRUSTED) and fits(found)


def is_reader(name: Any) -> bool:
    """Whether this names one of the project's own readers of data sets."""
    return isinstance(name, str) and find_ours(name, lambda found: isinstance(found, type) and hasattr(found, "exists"))


def by_name(name: str, known: Mapping[str, T], load: Callable[[str], T], *, unknown: str, unloadable: str) -> T:
    """What a configuration names: one of the project's choices, or a dotted path to another.

    Args:
        name: as configured.
        known: the choices.
        load: imports a dotted path.
        unknown: says that there is no such choice; the nearest ones follow.
        unloadable: says that the path cannot be imported.
    """
    if name in known:
        return known[name]
    if "." not in name:
        raise UserError(f"{unknown}; {nearest(name, known)}")
    try:
        return load(name)
    except Exception as error:
        raise UserError(unloadable) from error


def _check(config: Mapping[str, Any], path: str) -> None:
    name = config["_target_"]
    try:
        target = get_object(name)
        if not callable(target):
            raise TypeError("not a class or a function")
    except Exception as error:
        raise UserError(f"{path}._target_: cannot import {name!r} ({error.__class__.__name__})") from error
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # written in C: it says so itself when called
        return
    if name.startswith("segmentation."):
        _check_types(config, target, path)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in set(config) - RESERVED - set(parameters):
        raise UserError(f"{path}.{key}: {name} takes no such argument; {nearest(key, parameters)}")


def _check_types(config: Mapping[str, Any], target: Any, path: str) -> None:
    """Raise a UserError for a number, word or switch that the annotations of the project's own parts do not allow."""
    made_by = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]  # only its hints are read
    try:
        hints = typing.get_type_hints(made_by)
    except NameError:  # of what is imported for type checkers alone: no part that a YAML names
        return
    for key in set(config) & set(hints):
        hint = hints[key]
        kinds = set(typing.get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
        kind = type(config[key])
        if kinds <= SIMPLE and kind not in kinds and not (kind is int and float in kinds):
            wanted = " or ".join(sorted("null" if one is type(None) else one.__name__ for one in kinds))
            raise UserError(f"{path}.{key}={shown(config[key])}: give {wanted}")
