"""Behaviour mixed into the layers of a network that others built: their names, weights and places stay."""

import functools
from typing import Any

from torch import nn


class Mixin(nn.Module):
    """To be put before the class of a layer, by `mix`."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """As any object's, but for the class, which pickle would look for in the module of the one it stands for."""
        return empty, type(self).__bases__, self.__dict__


def mix(mixin: type[Mixin], layer: Any) -> None:
    """Put a mixin before the class of a layer, once."""
    kinds: Any = (mixin, type(layer))  # for mypy a module's class cannot be a key of the cache
    if not isinstance(layer, mixin):
        layer.__class__ = mixed(*kinds)


@functools.cache
def mixed(mixin: Any, layer: Any) -> Any:
    """The class of a layer with a mixin before it, under the same name."""
    return type(layer.__name__, (mixin, layer), {"__module__": layer.__module__})


def empty(mixin: Any, layer: Any) -> Any:
    """One of those, for pickle to fill."""
    kind = mixed(mixin, layer)
    return kind.__new__(kind)
