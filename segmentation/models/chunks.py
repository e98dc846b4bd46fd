"""Long scans in bounded memory: what a recurrent network keeps for its backward pass, kept for one chunk at a time."""

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


def scan_in_chunks(cell: Any, sequences: Tensor, size: int) -> Tensor:
    """What `cell(sequences)[0]` is, computed chunk by chunk, each again when its gradient is asked for.

    Gradient checkpointing (Chen et al., 2016) along the scan: of the gates and states of all steps only the states
    between chunks and the results stay, for about one more forward pass.

    Args:
        cell: a recurrent network with torch's arguments and names, `batch_first`.
        sequences: [B, L, channels].
        size: steps of a chunk.
    """
    steps = sequences
    for layer in range(cell.num_layers):
        directions = [scan_direction(cell, steps, f"_l{layer}", size)]
        if cell.bidirectional:
            directions.append(scan_direction(cell, steps.flip(1), f"_l{layer}_reverse", size).flip(1))
        steps = torch.cat(directions, -1)
    return steps


def scan_direction(cell: Any, steps: Tensor, ending: str, size: int) -> Tensor:
    """States [B, L, hidden_size] of one layer in one direction, its parameters those whose names end like this."""
    weights: dict[str, Tensor] = {
        name.removesuffix(ending) + "_l0": value for name, value in cell.named_parameters() if name.endswith(ending)
    }
    with torch.device("meta"):  # only its code is needed
        single = type(cell)(steps.shape[-1], cell.hidden_size, batch_first=True).train(cell.training)

    def scan(chunk: Tensor, state: object) -> tuple[Tensor, object]:
        states, last = functional_call(single, weights, (chunk, state), strict=True)
        return states, last

    state, scanned = None, []
    for chunk in torch.split(steps, size, 1):
        states, state = checkpoint(scan, chunk, state, use_reentrant=False)
        scanned.append(states)
    return torch.cat(scanned, 1)
