"""Labelled sequences that a rule draws, or that are read from released files in their place."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from lcsm.batch import Batch
from lcsm.data.labelled.base import LabelledData
from lcsm.data.labelled.store import SPLITS, LabelledSet, LabelledSource
from lcsm.data.rules import FreshBatches, Rule
from lcsm.data.sampling import Shard
from lcsm.data.settings import CachedLoading, Loading, require_sizes


@dataclass(frozen=True)
class SplitSizes:
    """Generated examples of each split.

    Args:
        num_train: None makes new examples for every step; a number makes that many and reshuffles them every epoch.
        num_val, num_test: examples for validation and test.
    """

    num_train: int | None
    num_val: int
    num_test: int

    def __post_init__(self) -> None:
        require_sizes(num_train=self.num_train, num_val=self.num_val, num_test=self.num_test)


class Drawn(LabelledSource):
    """Examples that a rule draws.

    Args:
        name: as of every source.
        rule: how examples are made.
        sizes: examples of every split.
        loading: the seed, and how many processes draw at once; the examples do not depend on it.
    """

    dtype = np.uint8

    def __init__(self, name: str, rule: Rule[LabelledSet], sizes: Mapping[str, int], loading: Loading) -> None:
        self.name, self.rule, self.sizes, self.loading = name, rule, dict(sizes), loading
        self.settings = {"rule": vars(rule), "seed": loading.seed}

    def blocks(self, split: str) -> Iterator[LabelledSet]:
        place = self.loading.seed, SPLITS.index(split), self.sizes[split] or 0
        if not self.loading.num_workers:
            yield from self.rule.blocks(*place)
            return
        with ProcessPoolExecutor(self.loading.num_workers, mp_context=get_context("spawn")) as pool:
            yield from self.rule.blocks(*place, pool.map)


class GeneratedLabels(LabelledData):
    """Labelled sequences that a rule draws.

    Args:
        length: longest row.
        root: folder with released files, which are read in their place; None draws.
        rule: how examples are made.
        sizes: how many are drawn.
        loading: see `LabelledData`.
    """

    def __init__(
        self, length: int, root: str | None, rule: Rule[LabelledSet], sizes: SplitSizes, loading: CachedLoading
    ) -> None:
        super().__init__(length, loading)
        self.root, self.rule, self.sizes = root, rule, sizes

    @abstractmethod
    def released(self, root: str) -> LabelledSource:
        """The released files of a folder."""

    def source(self) -> LabelledSource:
        if self.root is not None:
            return self.released(self.root)
        sizes = dict(zip(SPLITS, astuple(self.sizes), strict=True))
        fixed = {split: size for split, size in sizes.items() if size is not None}
        return Drawn(type(self).__name__, self.rule, fixed, self.loading)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"generated": self.root is None}

    def training_batches(self, shard: Shard) -> Dataset[Batch]:
        if self.root is None and self.sizes.num_train is None:
            return FreshBatches(self.rule, self.collate().batch, self.loading, shard)
        return super().training_batches(shard)
