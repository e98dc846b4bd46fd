"""Dotted keys of nested settings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value under its dotted key."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def look_up(settings: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None for a network that has none."""
    found: Any = settings
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def without(settings: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The settings but for some dotted keys."""
    left: dict[str, Any] = {}
    for name, value in settings.items():
        below = [key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")]
        if name not in keys:
            left[name] = without(value, below) if below and isinstance(value, Mapping) else value
    return left
