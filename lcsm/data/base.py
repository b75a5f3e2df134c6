"""The part that all data modules share: loaders whose batches are functions of a global batch index."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lcsm.batch import Batch, Targets
from lcsm.data.sampling import BatchIndices, EpochOrder, Shard, even_batches
from lcsm.data.settings import Loading, require_integer
from lcsm.errors import UsageError

# (examples, indices of this process's rows, indices of all rows of the global batch) -> batch
Collate = Callable[[Any, np.ndarray, np.ndarray], Batch]


class EvaluationBatches(Dataset[Batch], ABC):
    """A finite list of batches, each holding this process's part of a global batch.

    Args:
        rows: rows of all batches.
        batch_size: rows of a global batch.
        shard: this process's part.
    Raises:
        UsageError: there are fewer rows than processes.
    """

    def __init__(self, rows: int, batch_size: int, shard: Shard) -> None:
        if rows < shard.world_size:
            raise UsageError(
                f"there are {rows} rows to evaluate for {shard.world_size} processes, which need one each;\n"
                "use more data, smaller data.val_lengths or fewer devices"
            )
        self._batches = even_batches(rows, batch_size, shard.world_size)
        self._shard = shard

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:
        batch = self._batches[index]
        mine = self._shard.slice(batch.stop - batch.start)
        return self.rows(slice(batch.start + mine.start, batch.start + mine.stop))

    @abstractmethod
    def rows(self, chosen: slice) -> Batch:
        """A batch of consecutive rows."""


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


class BatchDataModule(lightning.LightningDataModule, ABC):
    """Loaders over global batch indices; one batch is one item of its dataset, so worker processes change nothing.

    `batch_size` counts the rows of the global batch. With several processes each takes its own slice, so that one and
    two processes train on the same numbers. The trainer needs `use_distributed_sampler=False`.

    Args:
        length: tokens in a training row.
        loading: how batches are loaded.
    Attributes:
        targets: what is to be learnt from the data.
        task: an option of task/ that learns it.
    Raises:
        UsageError: the length is no integer >= 1.
    """

    targets: ClassVar[Targets] = "positions"
    task: ClassVar[str] = "lm"

    def __init__(self, length: int, loading: Loading) -> None:
        super().__init__()
        require_integer("data.length", length, 1)
        self.length = length
        self.loading = loading
        # global index of the first training batch; a resumed run sets it before it fits
        self.first_batch = 0
        # the split that validation loaders read; `lcsm evaluate split=test` sets it, a run never does
        self.scored_split = "validation"

    @classmethod
    def preview(cls, settings: Mapping[str, Any]) -> tuple[int, int, dict[str, Any]]:
        """Vocabulary, length and kind of the data that settings describe, as far as that is known without reading."""
        module = cls(**settings)
        return module.vocab_size, module.length, module.kind()

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of token ids that a model needs."""

    @property
    @abstractmethod
    def val_names(self) -> list[str]:
        """Names of the loaders of the scored split, as multiples of the training length: "1x", "2x"."""

    def kind(self) -> dict[str, Any]:
        """The facts of the labels that a model needs; empty where positions have their own targets."""
        return {}

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Flat facts about the data for logs and reports."""

    @abstractmethod
    def training_batches(self, shard: Shard) -> Dataset[Batch]:
        """Dataset whose item i is this process's part of global training batch i."""

    @abstractmethod
    def evaluation_batches(self, split: str, shard: Shard) -> Mapping[str, EvaluationBatches]:
        """Datasets of `validation` or `test`, by loader name.

        Raises:
            UsageError: there is no such split.
        """

    def tokenizer_state(self) -> dict[str, str] | None:
        """The state from which `tokenizer_from_state` rebuilds the tokenizer; None when the data is not text."""
        return None

    def train_dataloader(self) -> DataLoader[Batch]:
        shard, rows = self._shard(), self.loading.batch_size
        if rows % shard.world_size:
            raise UsageError(
                f"data.batch_size={rows} must be a multiple of the {shard.world_size} processes;\n"
                f"choose {rows // shard.world_size * shard.world_size or shard.world_size}"
            )
        return self._loader(self.training_batches(shard), BatchIndices(self._next_batch))

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        batches = self.evaluation_batches(self.scored_split, self._shard())
        return [self._loader(part, BatchIndices(_first, len(part))) for part in batches.values()]

    def _loader(self, dataset: Dataset[Batch], sampler: BatchIndices) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            # one item is one batch
            batch_size=None,
            sampler=sampler,
            num_workers=self.loading.num_workers,
            persistent_workers=self.loading.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def _shard(self) -> Shard:
        return Shard() if self.trainer is None else Shard(self.trainer.global_rank, self.trainer.world_size)

    def _next_batch(self) -> int:
        # a trainer with short epochs iterates the loader again: go on where training stands, do not repeat
        if self.trainer is None:
            return self.first_batch
        total = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return max(self.first_batch, total.processed)  # type: ignore[attr-defined]


def _first() -> int:
    return 0
