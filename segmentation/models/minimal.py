"""Minimal recurrent cells (Feng et al., 2024, "Were RNNs All We Needed?"): gates that do not look at the state.

What a step forgets and takes in then depends on its input alone, and all steps can be computed in parallel. Beside
torch's LSTM and GRU they lack the recurrent matrices, and the state is not squashed.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.models.fused import usable
from segmentation.models.recurrence import gated_recurrence


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

    def gates(self, mapped: Tensor) -> Tensor:
        """The maps of the input [..., parts * hidden_size] to [..., 2 * hidden_size]: logits, the sigmoids of which a
        step keeps of the state, and candidates, of which it adds the rest.
        """
        raise NotImplementedError

    def forward(self, sequences: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Sequences [B, L, input_size] to all states [B, L, directions * hidden_size] and the last of each.

        The last states, and those to `start` from, are [num_layers * directions, B, hidden_size], as torch has them.
        """
        suits = sequences.dtype != torch.float64 and sequences.numel() > 0
        fused = suits and usable("gated_scan", sequences.device, self.hidden_size)
        last = []
        for layer in range(self.num_layers):
            endings = [f"l{layer}{ending}" for ending in self.endings]
            begin = None if start is None else start.reshape(self.num_layers, -1, *start.shape[1:])[layer]
            states, ends = (self.scan_fused if fused else self.scan)(sequences, endings, begin)
            last.append(ends)
            sequences = states.to(sequences.dtype)
        return sequences, torch.cat(last)

    def scan(self, sequences: Tensor, endings: list[str], start: Tensor | None) -> tuple[Tensor, Tensor]:
        """One layer, its parameters those of these endings: all states, and the last ones [directions, B, H]."""
        directions, last = [], []
        for number, ending in enumerate(endings):
            mapped = F.linear(sequences, getattr(self, f"weight_ih_{ending}"), getattr(self, f"bias_ih_{ending}"))
            # Sums over thousands of steps need float32 at least, whatever precision the maps are computed in.
            precise = mapped.transpose(0, 1).to(torch.promote_types(mapped.dtype, torch.float32))
            begin = None if start is None else start[number]
            states = gated_recurrence(self.gates(precise), begin, reverse=number == 1)
            directions.append(states.transpose(0, 1))
            last.append(states[0 if number == 1 else -1])
        return torch.cat(directions, -1), torch.stack(last)

    def scan_fused(self, sequences: Tensor, endings: list[str], start: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same by the kernel for GPUs: gates in the precision of their maps, states between steps in float32."""
        weights, biases = (
            torch.cat([getattr(self, f"{name}_ih_{end}") for end in endings]) for name in ("weight", "bias")
        )
        mapped = F.linear(sequences, weights, biases)
        mapped = mapped.view(*mapped.shape[:2], len(endings), self.parts * self.hidden_size)
        if start is None:
            start = mapped.new_zeros(len(endings), len(sequences), self.hidden_size, dtype=torch.float32)
        states, last = torch.ops.segmentation.gated_scan(self.gates(mapped), start.transpose(0, 1))
        return states.flatten(2), last.transpose(0, 1)


class MinGRU(MinimalCell):
    """`h[t] = (1 - z[t]) * h[t-1] + z[t] * c[t]`, with the gate z and the candidate c from the input."""

    parts = 2

    def gates(self, mapped: Tensor) -> Tensor:
        return mapped  # 1 - z is the sigmoid of the negative gate: its map is learned with that sign


class MinLSTM(MinimalCell):
    """`h[t] = f[t] * h[t-1] + i[t] * c[t]`, forget and input gates scaled so that they sum to one."""

    parts = 3

    def gates(self, mapped: Tensor) -> Tensor:
        forget, take, candidate = mapped.chunk(3, -1)
        # f / (f + i) for f and i sigmoids: in this form no rounding to zero of both can divide by zero.
        return torch.cat([F.logsigmoid(forget) - F.logsigmoid(take), candidate], -1)


def parameter(size: int, width: int | None = None) -> nn.Parameter:
    """Weights [size, width] drawn as torch's linear layers draw theirs, or biases [size] of zero."""
    if width is None:
        return nn.Parameter(torch.zeros(size))
    bound = 1 / math.sqrt(width)
    return nn.Parameter(torch.empty(size, width).uniform_(-bound, bound))
