"""Which samples a process sees, and when: decided by (seed, epoch) alone, for any number of processes."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

Key = tuple[int, int]  # (epoch, index): all that a sample's augmentation may depend on besides the seed
UNCOUNTED = -1  # index of a sample that stands for none: void throughout


class TrainSampler(Sampler[Key]):
    """All samples in an order drawn from (seed, epoch), dealt out so that every process gets equally many.

    Args:
        length: samples in the split.
        seed: of the run.
        rank: of this process.
        world: how many processes there are.
    """

    def __init__(self, length: int, seed: int, rank: int, world: int) -> None:
        self.length, self.seed, self.rank, self.world = length, seed, rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world

    def __iter__(self) -> Iterator[Key]:
        # A prime keeps (seed, epoch) pairs apart: seed 0's epoch 1 must not be seed 1's epoch 0.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator).tolist()
        dealt = order[self.rank : len(self) * self.world : self.world]
        return iter([(self.epoch, index) for index in dealt])


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
