"""Batches of examples: new ones for every step, a set in a new order every epoch, or each example once."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from lcsm.batch import Batch
from lcsm.data.base import EvaluationBatches
from lcsm.data.rules import Rule
from lcsm.data.sampling import EpochOrder, Shard
from lcsm.data.settings import Loading

# (examples, indices of this process's rows, indices of all rows of the global batch) -> batch
Collate = Callable[[Any, np.ndarray, np.ndarray], Batch]


class FreshBatches(Dataset[Batch]):
    """Training batches that never repeat an example: batch i is drawn from (seed, i)."""

    def __init__(self, rule: Rule[Any], collate: Collate, loading: Loading, shard: Shard) -> None:
        self.rule, self.collate = rule, collate
        self.loading, self.shard = loading, shard

    def __getitem__(self, index: int) -> Batch:
        # every process draws the whole batch, which is cheap, so that the number of processes changes nothing
        rows = self.loading.batch_size
        together = np.arange(rows)
        return self.collate(self.rule.fresh(self.loading.seed, index, rows), together[self.shard.slice(rows)], together)


class EpochBatches(Dataset[Batch]):
    """Training batches of a fixed set, in a new order every epoch; batch i is a function of (seed, i)."""

    def __init__(self, examples: Any, collate: Collate, loading: Loading, shard: Shard) -> None:
        self.examples, self.collate = examples, collate
        self.loading, self.shard = loading, shard
        self.order = EpochOrder(loading.seed, len(examples))

    def __getitem__(self, index: int) -> Batch:
        rows = self.loading.batch_size
        _, together = self.order.locate(index * rows + np.arange(rows))
        return self.collate(self.examples, together[self.shard.slice(rows)], together)


class OrderedBatches(EvaluationBatches):
    """Every example of a fixed set once, in order."""

    def __init__(self, examples: Any, collate: Collate, batch_size: int, shard: Shard) -> None:
        super().__init__(len(examples), batch_size, shard)
        self.examples, self.collate = examples, collate

    def rows(self, chosen: slice) -> Batch:
        mine = np.arange(chosen.start, chosen.stop)
        return self.collate(self.examples, mine, mine)
