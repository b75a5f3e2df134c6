"""Random numbers, rows and batches as functions of (seed, split, index, rank)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

# the first element of every random stream's path, so that no two splits share numbers
TRAIN, VALIDATION, TEST = 0, 1, 2


def stream(seed: int, *path: int) -> np.random.Generator:
    """Independent random numbers for one place in the data, whatever was drawn elsewhere.

    Args:
        seed: the run's data seed, >= 0.
        path: integers >= 0 that name the place, such as (split, batch index).
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=path)))


@dataclass(frozen=True)
class Shard:
    """The part of every global batch that belongs to one process.

    Args:
        rank: this process, 0 <= rank < world_size.
        world_size: number of processes that share a global batch.
    """

    rank: int = 0
    world_size: int = 1

    def slice(self, rows: int) -> slice:
        """Contiguous rows of a global batch of `rows` rows; the slices of all ranks cover it exactly once."""
        return slice(rows * self.rank // self.world_size, rows * (self.rank + 1) // self.world_size)


class BatchIndices(Sampler[int]):
    """Global batch indices in order, endless unless `stop` is given.

    Args:
        start: asked for the first index whenever an iteration begins, so that a resumed run or a second epoch goes on.
        stop: one past the last index; None never stops, and the loader then has no length.
    """

    def __init__(self, start: Callable[[], int], stop: int | None = None) -> None:
        self.start = start
        self.stop = stop

    def __iter__(self) -> Iterator[int]:
        index = self.start()
        while self.stop is None or index < self.stop:
            yield index
            index += 1

    def __len__(self) -> int:
        if self.stop is None:
            # the protocol by which loaders learn that there is no length
            raise TypeError("training batches are endless and have no length; set trainer.max_steps")
        return max(0, self.stop - self.start())


def even_batches(rows: int, batch_size: int, world_size: int) -> list[slice]:
    """Cut evaluation rows into batches whose sizes differ by one at most.

    No batch is larger than `batch_size`, unless it must be to have a row for every process.

    Args:
        rows: all rows, >= world_size.
        batch_size: rows of a global batch.
        world_size: number of processes.
    """
    batches = max(1, min(-(-rows // batch_size), rows // world_size))
    return [slice(rows * index // batches, rows * (index + 1) // batches) for index in range(batches)]


class EpochOrder:
    """Places `count` examples in a new order every epoch: the order is a function of (seed, epoch) only.

    Args:
        seed: the run's data seed.
        count: number of examples, >= 1.
    """

    # a batch touches two epochs at most unless it is larger than the data
    KEPT = 2

    def __init__(self, seed: int, count: int) -> None:
        self.seed = seed
        self.count = count
        self._orders: dict[int, np.ndarray] = {}

    def locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Examples at positions of the endless stream of epochs.

        Args:
            positions: global positions, int64 [rows].
        Returns:
            (epochs, examples), both int64 [rows].
        """
        epochs, places = np.divmod(positions, self.count)
        examples = np.empty_like(places)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            examples[chosen] = self._order(int(epoch))[places[chosen]]
        return epochs, examples

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            if len(self._orders) >= self.KEPT:
                del self._orders[min(self._orders)]
            self._orders[epoch] = stream(self.seed, TRAIN, 0, epoch).permutation(self.count)
        return self._orders[epoch]
