"""Means over the batches of an epoch that outlive an interruption, as Lightning's own do not."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric


class EpochMeans(nn.Module):
    """Loss and pixel accuracy of a training epoch so far, over all processes."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = MeanMetric(nan_strategy="disable")  # looking for NaNs would make the host wait
        self.accuracy = MeanMetric(nan_strategy="disable")

    def update(self, loss: Tensor, accuracy: Tensor, images: int) -> None:
        """Add a batch."""
        self.loss.update(loss, weight=images)
        self.accuracy.update(accuracy, weight=images)

    def reset(self) -> None:
        self.loss.reset()
        self.accuracy.reset()

    def save(self) -> list[dict[str, Tensor]]:
        """All that was added, of all processes: each of them must call this."""
        states = []
        for mean in (self.loss, self.accuracy):
            with mean.sync_context():
                states.append({name: torch.as_tensor(value).clone() for name, value in mean.metric_state.items()})
        return states

    def load(self, states: Sequence[Mapping[str, Tensor]], *, rank: int) -> None:
        """Go on from what was saved: the first process with all of it, the others with nothing, since it is summed."""
        self.reset()
        for mean, state in zip((self.loss, self.accuracy), states, strict=True):
            mean.update(0.0, weight=0.0)  # adds nothing; a metric that was never updated warns
            for name, value in state.items() if rank == 0 else ():
                setattr(mean, name, value.to(mean.device))
