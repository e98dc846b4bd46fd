"""torch's LSTM, on GPUs by kernels of this project, which were faster at 128 states on Hopper (docs/benchmark.md)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.models.fused import usable
from segmentation.models.precision import computed_in
from segmentation.models.threads import better_alone, one_thread, one_thread_backward

HALVES = (torch.float16, torch.bfloat16)
SIZES = (16, 32, 64, 128)  # of a state: powers of two whose weights fit on a GPU's chip

State = tuple[Tensor, Tensor]  # states and cells, [num_layers * directions, B, hidden_size] each


class LSTM(nn.RNNBase):
    """The parameters of torch's LSTM and, of tensors, its results up to rounding, by the kernels where they suit.

    Not a torch.nn.LSTM itself: torch.compile refuses those, and so could not compile across a scan.

    Args:
        input_size: of a step.
        hidden_size: of the state of one direction.
        arguments: further ones of torch's LSTM, and `keywords`.
    """

    # What torch's own has and RNNBase lacks.
    check_forward_args: Any = nn.LSTM.check_forward_args
    get_expected_cell_size: Any = nn.LSTM.get_expected_cell_size
    permute_hidden: Any = nn.LSTM.permute_hidden

    def __init__(self, input_size: int, hidden_size: int, *arguments: Any, **keywords: Any) -> None:
        super().__init__("LSTM", input_size, hidden_size, *arguments, **keywords)

    def forward(self, sequences: Tensor, start: State | None = None) -> tuple[Tensor, State]:
        """Sequences [B, L, input_size] to states [B, L, directions * hidden_size], and the last states and cells."""
        if not (self.suits(sequences) and usable("lstm_scan", sequences.device, self.hidden_size)):
            by_torch: tuple[Tensor, State] = self.by_torch(sequences, start)
            return by_torch
        shape = (self.num_layers, 1 + self.bidirectional, len(sequences), self.hidden_size)
        begins = None if start is None else [one.reshape(shape) for one in start]
        last_states, last_cells = [], []
        for layer in range(self.num_layers):
            begin = None if begins is None else (begins[0][layer], begins[1][layer])
            sequences, (state, cell) = self.scan(sequences, layer, begin)
            last_states.append(state)
            last_cells.append(cell)
        return sequences, (torch.cat(last_states), torch.cat(last_cells))

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # it would unroll the steps
    def by_torch(self, sequences: Tensor, start: State | None) -> Any:
        """The same by torch's own kernels."""
        forward: Any = nn.LSTM.forward
        if not better_alone(sequences):
            return forward(self, sequences, start)
        with one_thread():
            result = forward(self, sequences, start)
        one_thread_backward(result[0], sequences)
        return result

    def suits(self, sequences: Tensor) -> bool:
        """Whether the kernels compute this: half precision, as under autocast, where torch's own take float16."""
        if sequences.device.type != "cuda":
            return False
        plain = self.batch_first and self.bias and not self.proj_size and not self.dropout
        filled = sequences.ndim == 3 and sequences.numel() > 0
        return plain and filled and computed_in(sequences) in HALVES and self.hidden_size in SIZES

    def scan(self, sequences: Tensor, layer: int, begin: State | None) -> tuple[Tensor, State]:
        """One layer, its states and cells of [directions, B, hidden_size]."""
        endings = [f"l{layer}", f"l{layer}_reverse"] if self.bidirectional else [f"l{layer}"]
        weights, biases, more_biases, recurrent = (
            [getattr(self, f"{name}_{ending}") for ending in endings]
            for name in ("weight_ih", "bias_ih", "bias_hh", "weight_hh")
        )
        mapped = F.linear(sequences, torch.cat(weights), torch.cat(biases) + torch.cat(more_biases))
        mapped = mapped.view(*mapped.shape[:2], len(endings), 4 * self.hidden_size)
        if begin is None:
            zeros = mapped.new_zeros(len(endings), len(sequences), self.hidden_size, dtype=torch.float32)
            begin = (zeros, zeros)
        start, cell = (one.transpose(0, 1) for one in begin)
        states, last, _, _ = torch.ops.segmentation.lstm(
            mapped, torch.stack(recurrent), start, cell, torch.is_grad_enabled()
        )
        ends = [states[:, -1, 0], states[:, 0, 1]] if self.bidirectional else [states[:, -1, 0]]
        return states.flatten(2), (torch.stack(ends), last.transpose(0, 1))
