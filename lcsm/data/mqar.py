"""Multi-query associative recall, generated from (seed, split, index)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcsm.data.generated import GeneratedData, RowRule, Rows, mixture, numbers
from lcsm.data.settings import require_integer
from lcsm.errors import UsageError


@dataclass(frozen=True)
class MqarRule(RowRule):
    """The rule of a row: key-value pairs first, then every key once more as a query.

        tokens   k1 v1 k2 v2 .  .  k2 .  .  .  k1 .
        targets  -  -  -  -  -  -  v2 -  -  -  v1 -

    The value is the target where its key is the input. Queries stand in slots of two tokens after the pairs. Slot g,
    from 1, has weight g ** (power_a - 1), and the pairs choose their slots in order, without repetition.

    Args:
        length: tokens in a row.
        vocab_size: keys are 1 .. V // 2 - 1, values V // 2 .. V - 1, 0 is the blank.
        num_pairs: pairs in a row, or a list for a mixture with equal shares.
        power_a: 1 spreads queries evenly, near 0 puts them soon after the pairs.
        random_non_queries: replace blanks by uniform random tokens.
    Raises:
        UsageError: the pairs do not fit the length or the vocabulary.
    Source: Arora et al. 2023, arXiv 2312.04927, appendix on MQAR; lists of num_pairs are ours.
    """

    vocab_size: int
    num_pairs: int | Sequence[int]
    power_a: float
    random_non_queries: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("data.vocab_size", self.vocab_size, 4)
        most = max(self.mixed)
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

    @property
    def num_tokens(self) -> int:
        return self.vocab_size

    @property
    def mixed(self) -> tuple[int, ...]:
        """Numbers of pairs of the mixture."""
        return numbers("data.num_pairs", self.num_pairs, "number of pairs")

    def draw(self, random: np.random.Generator, first_row: int, rows: int) -> Rows:
        tokens, targets = Rows.blank(rows, self.length)
        labels, parts = mixture(self.mixed, first_row, rows)
        for pairs, chosen in parts:
            self._fill(random, tokens[chosen], targets[chosen], pairs)
        if self.random_non_queries:
            blank = tokens == 0
            tokens[blank] = random.integers(self.vocab_size, size=int(blank.sum()))
        return Rows(tokens, targets, {"pairs": labels})

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


class Mqar(GeneratedData, rule=MqarRule):
    """Multi-query associative recall (MQAR), with the number of pairs of each row in the group `pairs`."""
