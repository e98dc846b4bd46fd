"""Minimal recurrent cells (Feng et al., 2024, "Were RNNs All We Needed?"): gates that do not look at the state.

What a step forgets and takes in then depends on its input alone, and all steps can be computed in parallel. Beside
torch's LSTM and GRU they lack the recurrent matrices, and the state is not squashed.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.models.recurrence import linear_recurrence


class MinimalCell(nn.Module):
    """Takes torch's arguments, and names its parameters as torch's recurrent networks do.

    Args:
        input_size: of a step.
        hidden_size: of the state of one direction.
        num_layers: each on the states of the one before.
        batch_first: must be True: sequences are [B, L, input_size].
        bidirectional: a second set of weights, from the end to the beginning.
    """

    parts = 0  # linear maps of the input, each `hidden_size` wide

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        batch_first: bool = True,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        if not batch_first:
            raise ValueError("batch_first=False is not supported")
        self.input_size, self.hidden_size = input_size, hidden_size
        self.num_layers, self.bidirectional = num_layers, bidirectional
        self.endings = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size * len(self.endings)
            for ending in self.endings:
                self.register_parameter(f"weight_ih_l{layer}{ending}", parameter(self.parts * hidden_size, width))
                self.register_parameter(f"bias_ih_l{layer}{ending}", parameter(self.parts * hidden_size))

    def step(self, mapped: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The maps of the input, each [..., hidden_size], to what a step keeps of the state and what it adds to it."""
        raise NotImplementedError

    def forward(self, sequences: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Sequences [B, L, input_size] to all states [B, L, directions * hidden_size] and the last of each.

        The last states, and those to `start` from, are [num_layers * directions, B, hidden_size], as torch has them.
        """
        last = []
        for layer in range(self.num_layers):
            directions = []
            for number, ending in enumerate(self.endings):
                begin = None if start is None else start[layer * len(self.endings) + number]
                states = self.scan(sequences, f"l{layer}{ending}", begin, reverse=number == 1)
                directions.append(states.transpose(0, 1))
                last.append(states[0 if number == 1 else -1])
            sequences = torch.cat(directions, -1).to(sequences.dtype)
        return sequences, torch.stack(last)

    def scan(self, sequences: Tensor, ending: str, start: Tensor | None, *, reverse: bool) -> Tensor:
        """Sequences [B, L, width] to states [L, B, hidden_size], by the parameters of this ending."""
        mapped = F.linear(sequences, getattr(self, f"weight_ih_{ending}"), getattr(self, f"bias_ih_{ending}"))
        # Sums over thousands of steps need float32 at least, whatever precision the maps are computed in.
        precise = mapped.transpose(0, 1).to(torch.promote_types(mapped.dtype, torch.float32))
        decay, drive = self.step(list(precise.chunk(self.parts, -1)))
        return linear_recurrence(decay, drive, start, reverse=reverse)


class MinGRU(MinimalCell):
    """`h[t] = (1 - z[t]) * h[t-1] + z[t] * c[t]`, with the gate z and the candidate c from the input."""

    parts = 2

    def step(self, mapped: list[Tensor]) -> tuple[Tensor, Tensor]:
        keep, candidate = mapped  # 1 - z is the sigmoid of the negative gate: its map is learned with that sign
        return mix(torch.sigmoid(keep), candidate)


class MinLSTM(MinimalCell):
    """`h[t] = f[t] * h[t-1] + i[t] * c[t]`, forget and input gates scaled so that they sum to one."""

    parts = 3

    def step(self, mapped: list[Tensor]) -> tuple[Tensor, Tensor]:
        forget, take, candidate = mapped
        # f / (f + i) for f and i sigmoids: in this form no rounding to zero of both can divide by zero.
        return mix(torch.sigmoid(F.logsigmoid(forget) - F.logsigmoid(take)), candidate)


def mix(keep: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
    """What a step keeps of the state, and what it adds: the rest of the candidate, in one pass over memory."""
    return keep, torch.addcmul(candidate, keep, candidate, value=-1)


def parameter(size: int, width: int | None = None) -> nn.Parameter:
    """Weights [size, width] drawn as torch's linear layers draw theirs, or biases [size] of zero."""
    if width is None:
        return nn.Parameter(torch.zeros(size))
    bound = 1 / math.sqrt(width)
    return nn.Parameter(torch.empty(size, width).uniform_(-bound, bound))
