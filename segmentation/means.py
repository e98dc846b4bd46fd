"""Means over the batches of an epoch that outlive an interruption, as Lightning's own do not."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import SumMetric


class EpochMeans(nn.Module):
    """Loss and pixel accuracy of a training epoch so far, over all processes.

    Sums, since torchmetrics' mean forgets its weights where it does not look for NaNs, which would make the host wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loss, self._loss_images, self._accuracy, self._accuracy_images = (
            SumMetric(nan_strategy="disable") for _ in range(4)
        )

    @property
    def sums(self) -> tuple[SumMetric, ...]:
        """All that is added up."""
        return self._loss, self._loss_images, self._accuracy, self._accuracy_images

    def update(self, loss: Tensor, accuracy: Tensor, images: Tensor, own: Tensor) -> None:
        """Add a batch.

        Args:
            loss: of all processes' images.
            accuracy: of this process's labelled pixels.
            images: of the batch, 0 where those of all processes are void throughout.
            own: likewise, 0 where this process's are.
        """
        for metric, value in zip(self.sums, (loss * images, images, accuracy * own, own), strict=True):
            metric.update(value)

    def loss(self) -> Tensor:
        """The mean; 0 where nothing was labelled."""
        return self._loss.compute() / self._loss_images.compute().clamp(min=1)

    def accuracy(self) -> Tensor:
        """Likewise."""
        return self._accuracy.compute() / self._accuracy_images.compute().clamp(min=1)

    def reset(self) -> None:
        for metric in self.sums:
            metric.reset()

    def save(self) -> list[dict[str, Tensor]]:
        """All that was added, of all processes: each of them must call this."""
        states = []
        for metric in self.sums:
            with metric.sync_context():
                states.append({name: torch.as_tensor(value).clone() for name, value in metric.metric_state.items()})
        return states

    def load(self, states: Sequence[Mapping[str, Tensor]], *, rank: int) -> None:
        """Go on from what was saved: the first process with all of it, the others with nothing, since it is summed."""
        self.reset()
        for metric, state in zip(self.sums, states, strict=True):
            metric.update(0.0)  # adds nothing; a metric that was never updated warns
            for name, value in state.items() if rank == 0 else ():
                setattr(metric, name, value.to(metric.device))
