"""In which precision a layer computes."""

import torch
from torch import Tensor


def computed_in(inputs: Tensor) -> torch.dtype:
    """The precision of matrix products over these: autocast's where it is on, which leaves float64 alone."""
    kind = inputs.device.type
    casts = torch.is_autocast_enabled(kind) and inputs.dtype != torch.float64
    return torch.get_autocast_dtype(kind) if casts else inputs.dtype
