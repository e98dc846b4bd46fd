"""From a scan order to sequences and back: gather a map's positions, scan them, put the results back."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from hydra.utils import get_class, get_method
from torch import Tensor, nn

from segmentation.errors import UserError, nearest
from segmentation.models import orders
from segmentation.models.chunks import scan_in_chunks
from segmentation.models.lstm import LSTM
from segmentation.models.minimal import MinGRU, MinLSTM
from segmentation.targets import by_name

Order = Callable[..., Tensor]
CELLS: dict[str, type[nn.Module]] = {"lstm": LSTM, "gru": nn.GRU, "minlstm": MinLSTM, "mingru": MinGRU}


def find_order(name: str) -> Order:
    """The scan order of this name in `segmentation.models.orders`, or the function at this dotted path."""
    known: dict[str, Order] = {known: getattr(orders, known) for known in orders.__all__}
    return by_name(
        name,
        known,
        get_method,
        unknown=f"lstm.order: no scan order {name!r}",
        unloadable=f"lstm.order: cannot import {name!r}; give the dotted path of a function",
    )


def find_cell(name: str) -> type[nn.Module]:
    """The recurrent network of this name, or the class at this dotted path; it takes the arguments of torch's LSTM."""
    return by_name(
        name,
        CELLS,
        get_class,
        unknown=f"lstm.cell={name}: no such cell",
        unloadable=f"lstm.cell={name}: cannot be imported; give the dotted path of a class",
    )


def bind_arguments(names: Sequence[str], arguments: Mapping[str, Any]) -> list[tuple[Order, dict[str, Any]]]:
    """Each order with those of the arguments that it takes; one that none takes is the user's mistake."""
    found = [find_order(name) for name in names]
    taken = [set(list(inspect.signature(order).parameters)[2:]) for order in found]
    for key in arguments:
        if not any(key in keys for keys in taken):
            known = nearest(key, set().union(*taken))
            raise UserError(f"lstm.order_args.{key}: {' and '.join(names)} take no such argument; {known}")
    return [
        (order, {key: value for key, value in arguments.items() if key in keys})
        for order, keys in zip(found, taken, strict=True)
    ]


class Plan(NamedTuple):
    """An order laid out for one map size: sequences of equal length are scanned together."""

    visited: Tensor  # LongTensor[H*W]: flat positions, one group of sequences after the other
    inverse: Tensor  # LongTensor[H*W]: where each position stands in `visited`
    groups: list[tuple[int, int]]  # number of sequences and their length


def lay_out(order: Tensor, positions: int) -> Plan:
    """Split [num_sequences, length] with -1 as fill into groups of one length, and invert.

    Grouping by length instead of packing keeps the fill out of both directions, and every call a plain batch.
    """
    lengths = (order >= 0).sum(1)
    groups = [order[lengths == length, :length] for length in sorted(set(lengths.tolist())) if length]
    visited = torch.cat([group.flatten() for group in groups])
    if not torch.equal(visited.sort().values, torch.arange(positions)):
        raise UserError(
            f"lstm.order: must visit each of the {positions} positions exactly once, with -1 only at row ends"
        )
    return Plan(visited, visited.argsort(), [(group.shape[0], group.shape[1]) for group in groups])


class Permutation(torch.autograd.Function):
    """Steps [B, L, C] in another order; the gradient goes back by the inverse instead of being summed up step by step,
    as that of indexing is.
    """

    @staticmethod
    def forward(ctx: Any, steps: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return steps.index_select(1, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        result: Tensor = Permutation.apply(gradient, inverse, order)
        return result, None, None


class Layout(NamedTuple):
    """Where a scan meets each position of a map."""

    sequences: Tensor  # LongTensor[H, W]: the number of its sequence
    steps: Tensor  # LongTensor[H, W]: how many of that sequence come before it


class Scan(nn.Module):
    """A recurrent cell run over a map along one order.

    Args:
        channels: of the map that comes in.
        order: `(height, width, **arguments) -> LongTensor[num_sequences, length]`.
        arguments: keywords of the order.
        cell: a name in `CELLS`, or a dotted path.
        hidden_size: of one direction.
        num_layers: of the recurrent network.
        bidirectional: scan from both ends; doubles `out_channels`.
        chunk: steps whose inner values are kept at a time for the backward pass; None keeps those of all.
    """

    def __init__(
        self,
        channels: int,
        order: Order,
        arguments: Mapping[str, Any],
        *,
        cell: str,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        chunk: int | None,
    ) -> None:
        super().__init__()
        if chunk is not None and chunk < 1:
            raise UserError(f"lstm.chunk={chunk}: give a number of steps, or null")
        self.chunk = chunk
        self.order, self.arguments = order, dict(arguments)
        self.out_channels = hidden_size * (2 if bidirectional else 1)
        try:
            self.cell = find_cell(cell)(
                channels, hidden_size, num_layers, batch_first=True, bidirectional=bidirectional
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"lstm.cell={cell}: refuses the arguments of torch's LSTM: {error}") from error
        splits = (*CELLS.values(), nn.LSTM)  # what another adds, chunks would leave out
        if chunk is not None and type(self.cell) not in splits:
            raise UserError(f"lstm.chunk={chunk}: splits only {', '.join(CELLS)}, not {cell}; set lstm.chunk=null")
        self._plans: dict[tuple[int, int, torch.device], Plan] = {}

    def plan(self, height: int, width: int, device: torch.device) -> Plan:
        """The order laid out for a map of this size, made once and kept."""
        height, width = int(height), int(width)  # while a graph is traced they are symbols, which this fixes
        key = (height, width, device)
        if key not in self._plans:
            with torch.inference_mode(False):  # else training could not use what a validation made
                plan = lay_out(self.order(height, width, **self.arguments), height * width)
                self._plans[key] = Plan(plan.visited.to(device), plan.inverse.to(device), plan.groups)
        return self._plans[key]

    def layout(self, height: int, width: int) -> Layout:
        """In which sequence, and at which step of it, each position of a map of this size comes."""
        order = self.order(height, width, **self.arguments)
        visited = order >= 0
        found = torch.empty(2, height * width, dtype=torch.long)
        found[:, order[visited]] = visited.nonzero().T
        return Layout(*found.view(2, height, width))

    def run(self, sequences: Tensor) -> Tensor:
        """The cell over sequences [B, L, channels]: its states [B, L, out_channels]."""
        if self.chunk is not None and self.chunk < sequences.shape[1] and torch.is_grad_enabled():
            return scan_in_chunks(self.cell, sequences, self.chunk)
        states: Tensor = self.cell(sequences)[0]
        return states

    def forward(self, features: Tensor) -> Tensor:
        """[B, channels, H, W] to [B, out_channels, H, W]."""
        batch, channels, height, width = features.shape
        plan = self.plan(height, width, features.device)
        steps = Permutation.apply(features.flatten(2).transpose(1, 2), plan.visited, plan.inverse)
        scanned = []
        for group, (count, length) in zip(
            steps.split([count * length for count, length in plan.groups], 1), plan.groups, strict=True
        ):
            sequences = group.reshape(batch * count, length, channels)
            scanned.append(self.run(sequences).reshape(batch, count * length, self.out_channels))
        states = scanned[0] if len(scanned) == 1 else torch.cat(scanned, 1)
        restored: Tensor = Permutation.apply(states, plan.inverse, plan.visited)
        return restored.transpose(1, 2).reshape(batch, self.out_channels, height, width)
