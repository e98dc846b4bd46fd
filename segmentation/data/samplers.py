"""Which samples a process sees, and when: decided by (seed, epoch) alone, for any number of processes."""

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

# (epoch, index): all that a sample's augmentation may depend on besides the seed. Where a sample is drawn several times
# in an epoch, the second is (epoch, index, 1), the third (epoch, index, 2), ...
Key = tuple[int, ...]
UNCOUNTED = -1  # index of a sample that stands for none: void throughout


class TrainSampler(Sampler[Key]):
    """All samples in an order drawn from (seed, epoch), dealt out so that every process gets equally many.

    Args:
        length: samples in the split.
        seed: of the run.
        rank: of this process.
        world: how many processes there are.
        shares: of the draws, for each sample; as many samples are drawn as there are, some of them several times. None
            draws each once.
    """

    def __init__(self, length: int, seed: int, rank: int, world: int, shares: Tensor | None = None) -> None:
        self.length, self.seed, self.rank, self.world, self.shares = length, seed, rank, world, shares
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world

    def __iter__(self) -> Iterator[Key]:
        # A prime keeps (seed, epoch) pairs apart: seed 0's epoch 1 must not be seed 1's epoch 0.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.shares is None:
            order = torch.randperm(self.length, generator=generator)
        else:
            order = draw(self.shares, generator)
        keys = number(self.epoch, order.tolist())  # before they are dealt: the same for any number of processes
        return iter(keys[self.rank : len(self) * self.world : self.world])


def draw(shares: Tensor, generator: torch.Generator) -> Tensor:
    """Positions of samples in random order, as many as there are; each as often as its share says, rounded up or down.

    By systematic sampling (Madow and Madow, 1944): marks at even distances along the shares, which lie in random order.

    Args:
        shares: float64 [samples], in all 1.
        generator: decides.
    """
    count = len(shares)
    order = torch.randperm(count, generator=generator)
    marks = (torch.arange(count, dtype=torch.float64) + torch.rand(1, generator=generator, dtype=torch.float64)) / count
    places = torch.searchsorted(shares[order].cumsum(0), marks).clamp(max=count - 1)
    return order[places][torch.randperm(count, generator=generator)]


def number(epoch: int, indices: Sequence[int]) -> list[Key]:
    """The keys of samples in the order in which they are drawn."""
    seen = Counter[int]()
    keys: list[Key] = []
    for index in indices:
        keys.append((epoch, index, seen[index]) if seen[index] else (epoch, index))
        seen[index] += 1
    return keys


class TrainBatches(Sampler[list[Key]]):
    """Batches of a process; a last one of a single image is dropped, since batch norm has nothing to norm by then.

    Args:
        sampler: under this name Lightning finds it, to set its epoch.
        batch_size: images of a process in a batch.
    """

    def __init__(self, sampler: TrainSampler, batch_size: int) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        self.begun = (0, 0)

    def go_on(self, epoch: int, batches: int) -> None:
        """Begin with this epoch, of which so many batches were seen before the training was interrupted."""
        self.sampler.set_epoch(epoch)
        self.begun = (epoch, batches)

    def __iter__(self) -> Iterator[list[Key]]:
        keys = list(self.sampler)
        epoch, seen = self.begun
        first = seen if self.sampler.epoch == epoch else 0
        for start in range(first * self.batch_size, len(self) * self.batch_size, self.batch_size):
            yield keys[start : start + self.batch_size]

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole + (rest > 1)


class EvaluationSampler(Sampler[Key]):
    """Every sample exactly once over all processes; some may get one more than others.

    A process that would get none gets `UNCOUNTED`, since all of them must meet where the counts are summed.

    Args:
        length: samples in the split.
        rank: of this process.
        world: how many processes there are.
    """

    def __init__(self, length: int, rank: int, world: int) -> None:
        self.indices = range(rank, length, world) or [UNCOUNTED]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Key]:
        return iter([(0, index) for index in self.indices])
