"""Multi-query associative recall, generated from (seed, split, index)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from lcsm.data.base import BatchDataModule, EvaluationBatches
from lcsm.data.sampling import TEST, TRAIN, VALIDATION, Batch, EpochOrder, Shard, stream
from lcsm.data.settings import Loading, flat, require_integer, require_sizes
from lcsm.errors import UsageError

NOT_SCORED = -100
# rows that one random stream makes in a stored set; a constant, so that the set does not depend on the batch size
BLOCK = 1024

Examples = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class MqarRule:
    """How a row is made: key-value pairs first, then every key once more as a query.

        tokens   k1 v1 k2 v2 .  .  k2 .  .  .  k1 .
        targets  -  -  -  -  -  -  v2 -  -  -  v1 -

    The value is the target where its key is the input. Queries stand in slots of two tokens after the pairs. Slot g,
    from 1, has weight g ** (power_a - 1), and the pairs choose their slots in order, without repetition.

    Args:
        length: tokens in a row.
        vocab_size: keys are 1 .. V // 2 - 1, values V // 2 .. V - 1, 0 is the blank.
        num_pairs: pairs in a row; row r of the stream has `num_pairs[r % len(num_pairs)]`.
        power_a: 1 spreads queries evenly, near 0 puts them soon after the pairs.
        random_non_queries: replace blanks by uniform random tokens.
    Raises:
        UsageError: the pairs do not fit the length or the vocabulary.
    Source: Arora et al. 2023, arXiv 2312.04927, appendix on MQAR; lists of num_pairs are ours.
    """

    length: int
    vocab_size: int
    num_pairs: tuple[int, ...]
    power_a: float
    random_non_queries: bool

    def __post_init__(self) -> None:
        if not self.num_pairs:
            raise UsageError("data.num_pairs=[] must name at least one number of pairs")
        for pairs in self.num_pairs:
            require_integer("data.num_pairs", pairs, 1)
        most = max(self.num_pairs)
        if 4 * most > self.length:
            fewer = f"data.num_pairs={self.length // 4} or less, or " if self.length >= 4 else ""
            raise UsageError(
                f"data.num_pairs={most} needs 4 tokens per pair, {4 * most} in all, but data.length={self.length};\n"
                f"use {fewer}data.length={4 * most} or more"
            )
        if self.vocab_size // 2 - 1 < most:
            raise UsageError(
                f"data.vocab_size={self.vocab_size} has {max(0, self.vocab_size // 2 - 1)} keys, too few for "
                f"data.num_pairs={most};\nuse data.vocab_size={2 * most + 2} or more"
            )
        if not 0 < self.power_a < float("inf"):
            raise UsageError(f"data.power_a={self.power_a} must be positive and finite; the published value is 0.01")

    def draw(self, random: np.random.Generator, first_row: int, rows: int) -> Examples:
        """Make rows `first_row` to `first_row + rows` of a stream.

        Returns:
            tokens int64 [rows L], targets int64 [rows L] (-100 = not scored), number of pairs int64 [rows].
        """
        tokens = np.zeros((rows, self.length), dtype=np.int64)
        targets = np.full((rows, self.length), NOT_SCORED, dtype=np.int64)
        kinds = len(self.num_pairs)
        groups = np.array(self.num_pairs, dtype=np.int64)[np.arange(first_row, first_row + rows) % kinds]
        for kind, pairs in enumerate(self.num_pairs):
            chosen = slice((kind - first_row) % kinds, None, kinds)
            self._fill(random, tokens[chosen], targets[chosen], pairs)
        if self.random_non_queries:
            blank = tokens == 0
            tokens[blank] = random.integers(self.vocab_size, size=int(blank.sum()))
        return tokens, targets, groups

    def _fill(self, random: np.random.Generator, tokens: np.ndarray, targets: np.ndarray, pairs: int) -> None:
        rows, half, context = len(tokens), self.vocab_size // 2, 2 * pairs
        keys = 1 + distinct(random, rows, half - 1, pairs)
        values = half + distinct(random, rows, self.vocab_size - half, pairs)
        tokens[:, 0:context:2] = keys
        tokens[:, 1:context:2] = values
        weights = np.arange(1, (self.length - context) // 2 + 1) ** (self.power_a - 1.0)
        # the smallest of exponential times with these rates are draws without repetition, in order
        slots = smallest(random.standard_exponential((rows, len(weights))) / weights, pairs)
        queries = context + 2 * slots
        np.put_along_axis(tokens, queries, keys, axis=1)
        np.put_along_axis(targets, queries, values, axis=1)


def distinct(random: np.random.Generator, rows: int, count: int, chosen: int) -> np.ndarray:
    """Uniform draws of `chosen` different integers below `count`, in random order, int64 [rows chosen]."""
    # redrawing a row with a repetition is exact, and cheaper than ordering `count` numbers while a third of the rows
    # pass
    if chosen * chosen >= 2 * count:
        return smallest(random.random((rows, count)), chosen)
    draws = random.integers(count, size=(rows, chosen))
    while True:
        ordered = np.sort(draws, axis=1)
        repeated = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        if not repeated.any():
            return draws
        draws[repeated] = random.integers(count, size=(int(repeated.sum()), chosen))


def smallest(times: np.ndarray, chosen: int) -> np.ndarray:
    """Columns of the `chosen` smallest entries of every row, smallest first.

    Args:
        times: float64 [rows columns], >= 0.
    Returns:
        int64 [rows chosen].
    """
    # positive floats order like their bits; with the column in the lowest bits, one sort of integers gives the columns
    columns = times.shape[1]
    low = np.uint64((1 << (columns - 1).bit_length()) - 1)
    bits = (times.view(np.uint64) & ~low) | np.arange(columns, dtype=np.uint64)
    bits.sort(axis=1)
    return (bits[:, :chosen] & low).astype(np.int64)


def stored(rule: MqarRule, seed: int, split: int, rows: int) -> Examples:
    """A fixed set of `rows` examples, the same for every batch size."""
    starts = range(0, rows, BLOCK)
    blocks = [rule.draw(stream(seed, split, 1, start), start, min(BLOCK, rows - start)) for start in starts]
    tokens, targets, groups = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return tokens, targets, groups


def _batch(tokens: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> Batch:
    return {
        "tokens": torch.from_numpy(tokens),
        "targets": torch.from_numpy(targets),
        "group": torch.from_numpy(groups),
    }


class FreshBatches(Dataset[Batch]):
    """Training batches that never repeat an example: batch i is drawn from (seed, i)."""

    def __init__(self, rule: MqarRule, batch_size: int, seed: int, shard: Shard) -> None:
        self.rule = rule
        self.batch_size = batch_size
        self.seed = seed
        self.shard = shard

    def __getitem__(self, index: int) -> Batch:
        # every process draws the whole batch, which is cheap, so that the number of processes changes nothing
        examples = self.rule.draw(stream(self.seed, TRAIN, 2, index), index * self.batch_size, self.batch_size)
        mine = self.shard.slice(self.batch_size)
        return _batch(*(part[mine] for part in examples))


class RepeatedBatches(Dataset[Batch]):
    """Training batches from a fixed set, in a new order every epoch."""

    def __init__(self, examples: Examples, batch_size: int, seed: int, shard: Shard) -> None:
        self.examples = examples
        self.batch_size = batch_size
        self.order = EpochOrder(seed, len(examples[0]))
        self.shard = shard

    def __getitem__(self, index: int) -> Batch:
        mine = self.shard.slice(self.batch_size)
        _, chosen = self.order.locate(index * self.batch_size + np.arange(mine.start, mine.stop))
        return _batch(*(part[chosen] for part in self.examples))


class StoredBatches(EvaluationBatches):
    """Every example of a fixed set once, in order."""

    def __init__(self, examples: Examples, batch_size: int, shard: Shard) -> None:
        super().__init__(len(examples[0]), batch_size, shard)
        self.examples = examples

    def rows(self, chosen: slice) -> Batch:
        return _batch(*(part[chosen] for part in self.examples))


class Mqar(BatchDataModule):
    """Multi-query associative recall (MQAR); see `MqarRule` for the rows and `BatchDataModule` for the loaders.

    A batch has `tokens` and `targets`, int64 [B L], and `group`, the number of pairs of each row, int64 [B].

    Args:
        num_pairs: key-value pairs in a row, or a list for a mixture with equal shares.
        num_train: None makes new examples for every step; a number makes that many and reshuffles them every epoch.
        num_val: examples for validation and as many others for the test.
        length, vocab_size, power_a, random_non_queries: see `MqarRule`.
        loading: see `BatchDataModule`.
    Raises:
        UsageError: a value is out of range, or the pairs do not fit the length or the vocabulary.
    """

    @flat
    def __init__(
        self,
        length: int,
        vocab_size: int,
        num_pairs: int | list[int],
        power_a: float,
        random_non_queries: bool,
        num_train: int | None,
        num_val: int,
        loading: Loading,
    ) -> None:
        super().__init__(length, loading)
        require_integer("data.vocab_size", vocab_size, 4)
        require_sizes(num_train=num_train, num_val=num_val)
        pairs = tuple(num_pairs) if isinstance(num_pairs, list | tuple) else (num_pairs,)
        self.rule = MqarRule(length, vocab_size, pairs, power_a, random_non_queries)
        self.num_train = num_train
        self.num_val = num_val

    @property
    def vocab_size(self) -> int:
        return self.rule.vocab_size

    @property
    def val_names(self) -> list[str]:
        return ["1x"]

    def describe(self) -> dict[str, Any]:
        """Length, vocabulary, pairs and sizes of the sets (`train_examples` null = new ones for every step)."""
        return {
            "kind": "mqar",
            "length": self.length,
            "vocab_size": self.vocab_size,
            "num_pairs": " ".join(map(str, self.rule.num_pairs)),
            "train_examples": self.num_train,
            "validation_examples": self.num_val,
        }

    def training_batches(self, shard: Shard) -> Dataset[Batch]:
        if self.num_train is None:
            return FreshBatches(self.rule, self.loading.batch_size, self.loading.seed, shard)
        examples = stored(self.rule, self.loading.seed, TRAIN, self.num_train)
        return RepeatedBatches(examples, self.loading.batch_size, self.loading.seed, shard)

    def evaluation_batches(self, split: str, shard: Shard) -> dict[str, EvaluationBatches]:
        path = {"validation": VALIDATION, "test": TEST}[split]
        return {
            "1x": StoredBatches(
                stored(self.rule, self.loading.seed, path, self.num_val), self.loading.batch_size, shard
            )
        }
