"""Are the `_target_`s of a configuration there, and do they take the keywords given? Asked before data is read."""

import importlib
import inspect
import os
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
TYPED = ("segmentation.", "pytorch_lightning.")  # packages whose annotations are true
KEYWORDS = {"trainer.args": "pytorch_lightning.Trainer"}  # mappings of keywords, and of what
# Hydra's own keywords beside `_target_`.
RESERVED = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


def check_targets(config: Any, path: str = "") -> None:
    """Raise a UserError for the first `_target_` in plain containers that cannot be imported or refuses a keyword."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            _check(config, path)
        elif path in KEYWORDS:
            _check({"_target_": KEYWORDS[path], **config}, path)
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
    if name.startswith(TYPED):
        _check_types(config, target, path)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in set(config) - RESERVED - set(parameters):
        raise UserError(f"{path}.{key}: {name} takes no such argument; {nearest(key, parameters)}")


def _check_types(config: Mapping[str, Any], target: Any, path: str) -> None:
    """Raise a UserError for a value that an annotation of the part does not allow."""
    made_by = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]  # only its hints are read
    try:
        hints = typing.get_type_hints(made_by)
    except NameError:  # of what is imported for type checkers alone: no part that a YAML names
        return
    for key in set(config) & set(hints):
        if isinstance(config[key], Mapping) and "_target_" in config[key] and path not in KEYWORDS:
            continue  # what it becomes says so itself
        kinds = set(_members(hints[key]))
        if not any(_allows(kind, config[key]) for kind in kinds):
            wanted = " or ".join(sorted({_name(kind) for kind in kinds}))
            raise UserError(f"{path}.{key}={shown(config[key])}: give {wanted}")


def _members(hint: Any) -> Iterator[Any]:
    """The members of a union; an annotation that is none, alone."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        for member in typing.get_args(hint):
            yield from _members(member)
    else:
        yield hint


def _allows(kind: Any, value: Any) -> bool:
    """Whether a plain value may be of this kind; what is not known of a kind is allowed."""
    if kind in SIMPLE:
        return type(value) is kind or (type(value) is int and kind is float)
    match typing.get_origin(kind) or kind:
        case typing.Literal:
            return value in typing.get_args(kind)
        case origin if isinstance(origin, type) and issubclass(origin, str | os.PathLike):
            return isinstance(value, str)
        case origin if isinstance(origin, type):
            return isinstance(value, origin)
    return True


def _name(kind: Any) -> str:
    """How an error names a kind."""
    if kind is type(None):
        return "null"
    return str(kind).replace("typing.", "") if typing.get_origin(kind) else getattr(kind, "__name__", str(kind))
