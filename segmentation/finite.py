"""Numbers that are finite, and what to do where they are not, without asking the device in every step."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first of these with a number that is NaN or infinite; the host waits for the device once."""
    broken = {name: ~one.isfinite().all() for name, one in tensors.items() if one.is_floating_point()}
    if not broken or not torch.stack(list(broken.values())).any():
        return None
    return next(name for name, is_broken in broken.items() if is_broken)


def hold(optimizer: Optimizer, gradients: Sequence[Tensor], good: Tensor) -> None:
    """Let the optimizer's next step be none unless all is good, a scalar that stays on the device."""
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = (~good).float()  # type: ignore[attr-defined]  # how torch's GradScaler tells it
        return
    for gradient in gradients:  # others have no such means: momentum and decay go on, but nothing is poisoned
        gradient.nan_to_num_(0.0, 0.0, 0.0).mul_(good)
