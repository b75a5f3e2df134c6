"""Data modules whose examples are whole sequences with a label: padded batches, masks, splits."""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import Dataset

from lcsm.batch import Batch, Targets
from lcsm.batch import Sequences as Inputs
from lcsm.data.base import BatchDataModule, EpochBatches, EvaluationBatches, OrderedBatches
from lcsm.data.labelled.store import LabelledSet, LabelledSource, Stored, StoredSequences, stored
from lcsm.data.sampling import Shard
from lcsm.data.settings import CachedLoading

# rows are padded to a multiple of this, so that few different lengths occur
LENGTH_STEP = 64


class Collate:
    """Makes a batch of chosen examples.

    Args:
        length: longest row; what is longer must have been cut before.
        scale: (mean, standard deviation) of values that are numbers; None where they are ids of tokens.
    """

    def __init__(self, length: int, scale: tuple[float, float] | None) -> None:
        self.length = length
        self.scale = scale

    def batch(self, examples: LabelledSet, mine: np.ndarray, together: np.ndarray) -> Batch:
        """A batch of the examples `mine`, padded as far as the whole global batch `together` needs.

        Args:
            mine: indices of this process's rows.
            together: indices of all rows of the global batch.
        """
        length = self.padded_length(max(int(part.lengths[together].max()) for part in examples.documents))
        first, *others = (self.rows(document, mine, length, examples.ragged) for document in examples.documents)
        batch: Batch = {"labels": torch.from_numpy(examples.labels[mine]), **first}
        if others:
            batch["other"] = others[0]
        return batch

    def padded_length(self, longest: int) -> int:
        """The next multiple of LENGTH_STEP, within the longest row."""
        return max(longest, min(-(-longest // LENGTH_STEP) * LENGTH_STEP, self.length))

    def rows(self, document: StoredSequences, chosen: np.ndarray, length: int, ragged: bool) -> Inputs:
        """Some sequences, in `segments` of their own where their lengths differ."""
        values = document.padded(chosen, length)
        mask = np.arange(length) < document.lengths[chosen, None]
        rows: Inputs = {"mask": torch.from_numpy(mask)}
        if ragged:
            rows["segments"] = torch.from_numpy((~mask).astype(np.int64))
        if self.scale is None:
            rows["tokens"] = torch.from_numpy(values.astype(np.int64))
            return rows
        mean, deviation = self.scale
        numbers = np.where(mask, (values.astype(np.float32) - np.float32(mean)) / np.float32(deviation), np.float32(0))
        rows["inputs"] = torch.from_numpy(numbers)[..., None]
        return rows


class LabelledData(BatchDataModule):
    """Sequences with one label each, or pairs of sequences with one label.

    A batch has `labels`, `mask`, `tokens` or `inputs`, where lengths differ `segments` (0 in the sequence and 1 in the
    padding behind it), and of pairs the second sequences under `other`; see `lcsm.batch`. Rows are padded to the
    longest of their global batch, rounded up to a multiple of 64, and not beyond `length`.

    Args:
        length: longest row.
        loading: how batches are loaded, and where the examples are kept.
    Attributes:
        num_classes: number of labels.
        num_features: F where inputs are vectors; None where they are tokens.
        scale: mean and standard deviation that are taken off vectors.
    """

    num_classes: int
    num_features: int | None = None
    targets: ClassVar[Targets] = "sequence"
    task = "classification"
    scale: tuple[float, float] | None = None
    # ids of tokens; 0 for vectors
    num_tokens: int = 0

    loading: CachedLoading

    def __init__(self, length: int, loading: CachedLoading) -> None:
        super().__init__(length, loading)
        self._stored: Stored | None = None

    @abstractmethod
    def source(self) -> LabelledSource:
        """Find the examples; says which files are missing."""

    @property
    def vocab_size(self) -> int:
        return self.num_tokens

    @property
    def val_names(self) -> list[str]:
        return ["1x"]

    def prepare(self) -> Stored:
        """Read or generate the examples, once; later calls return the same.

        Raises:
            UsageError: files are missing or broken, or the cache cannot be written.
        """
        if self._stored is None:
            self._stored = stored(self.source(), self.loading.cache_dir)
        return self._stored

    def prepare_data(self) -> None:
        self.prepare()

    def setup(self, stage: str) -> None:
        self.prepare()

    def kind(self) -> dict[str, Any]:
        return {"num_classes": self.num_classes, "num_features": self.num_features, "targets": self.targets}

    def describe(self) -> dict[str, Any]:
        """Kind, sizes and hashes of the splits."""
        splits = self.prepare().facts["splits"]
        facts = {f"{split}_{name}": value for split, part in splits.items() for name, value in part.items()}
        return {"kind": type(self).__name__.lower(), "length": self.length, **self.kind(), **facts}

    def collate(self) -> Collate:
        """Makes the batches."""
        return Collate(self.length, self.scale)

    def training_batches(self, shard: Shard) -> Dataset[Batch]:
        examples = self.prepare().load("train")
        return EpochBatches(examples, self.collate().batch, self.loading, shard)

    def evaluation_batches(self, split: str, shard: Shard) -> dict[str, EvaluationBatches]:
        examples = self.prepare().load(split)
        return {"1x": OrderedBatches(examples, self.collate().batch, self.loading.batch_size, shard)}
