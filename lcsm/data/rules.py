"""The base of generated data: a rule that draws rows, and the random stream of each of its sets."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from torch.utils.data import Dataset

from lcsm.batch import Batch
from lcsm.data.base import Collate
from lcsm.data.sampling import TRAIN, Shard, stream
from lcsm.data.settings import Loading

Drawn = TypeVar("Drawn")


class Rule(ABC, Generic[Drawn]):
    """A rule that draws rows; a subclass is a frozen dataclass of its settings.

    Rows are a function of (seed, split, place), whatever was drawn before, so that a resumed run goes on exactly.

    Attributes:
        BLOCK: rows of a fixed set that one random stream makes; a constant, so that the set depends on nothing else.
    """

    BLOCK: ClassVar[int] = 1024

    @abstractmethod
    def draw(self, random: np.random.Generator, first_row: int, rows: int) -> Drawn:
        """Make rows `first_row` to `first_row + rows` of a stream."""

    def block(self, seed: int, split: int, first_row: int, rows: int) -> Drawn:
        """One block of a fixed set."""
        return self.draw(stream(seed, split, 1, first_row), first_row, rows)

    def blocks(self, seed: int, split: int, rows: int, run: Callable[..., Iterator[Drawn]] = map) -> Iterator[Drawn]:
        """A fixed set of `rows` rows, block by block; `run` is like `map`, such as that of a pool of processes."""
        starts = range(0, rows, self.BLOCK)
        return run(partial(self.block, seed, split), starts, [min(self.BLOCK, rows - start) for start in starts])


class FreshBatches(Dataset[Batch]):
    """Training batches that never repeat an example: batch i is drawn from (seed, i)."""

    def __init__(self, rule: Rule[Any], collate: Collate, loading: Loading, shard: Shard) -> None:
        self.rule, self.collate = rule, collate
        self.loading, self.shard = loading, shard

    def __getitem__(self, index: int) -> Batch:
        # every process draws the whole batch, which is cheap, so that the number of processes changes nothing
        rows = self.loading.batch_size
        together = np.arange(rows)
        drawn = self.rule.draw(stream(self.loading.seed, TRAIN, 2, index), index * rows, rows)
        return self.collate(drawn, together[self.shard.slice(rows)], together)
