"""Generated rows of tokens, in which some positions are scored.

A task of one's own is a `RowRule` with its settings, `num_tokens` and `draw`; a `GeneratedData` that takes the rule;
and conf/data/NAME.yaml with the fields of the rule, of `Sets` and of `Loading`. `lcsm.data.copying` is an example.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from lcsm.batch import NOT_SCORED, Batch
from lcsm.data.base import BatchDataModule, EpochBatches, EvaluationBatches, OrderedBatches
from lcsm.data.rules import FreshBatches, Rule
from lcsm.data.sampling import TEST, TRAIN, VALIDATION, Shard
from lcsm.data.settings import Loading, flat, require_integer, require_multiples, require_sizes
from lcsm.errors import UsageError


@dataclass(frozen=True)
class Rows:
    """Rows of tokens with their targets.

    Args:
        tokens: int64 [rows L].
        targets: token that each position has to give, int64 [rows L]; `NOT_SCORED` where none is asked for.
        groups: labels by which accuracy is reported, by name, each int64 [rows] or [rows L].
    """

    tokens: np.ndarray
    targets: np.ndarray
    groups: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        if self.tokens.shape != self.targets.shape:
            raise ValueError(
                f"rows have tokens {list(self.tokens.shape)} and targets {list(self.targets.shape)}: every position "
                "has a target, NOT_SCORED where nothing is asked"
            )

    def __len__(self) -> int:
        return len(self.tokens)

    @staticmethod
    def blank(rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Token 0 everywhere, and no target, both int64 [rows L]."""
        return np.zeros((rows, length), np.int64), np.full((rows, length), NOT_SCORED, np.int64)

    @classmethod
    def joined(cls, parts: Sequence["Rows"]) -> "Rows":
        """Parts, one behind the other."""
        tokens = np.concatenate([part.tokens for part in parts])
        targets = np.concatenate([part.targets for part in parts])
        return cls(
            tokens, targets, {name: np.concatenate([part.groups[name] for part in parts]) for name in parts[0].groups}
        )


def collate(rows: Rows, mine: np.ndarray, together: np.ndarray) -> Batch:
    """A batch of the rows `mine`."""
    return {
        "tokens": torch.from_numpy(rows.tokens[mine]),
        "targets": torch.from_numpy(rows.targets[mine]),
        "groups": {name: torch.from_numpy(labels[mine]) for name, labels in rows.groups.items()},
    }


@dataclass(frozen=True)
class RowRule(Rule[Rows]):
    """The rule of rows of tokens.

    Args:
        length: tokens in a row.
    Raises:
        UsageError: it is no integer >= 1.
    """

    length: int

    def __post_init__(self) -> None:
        require_integer("data.length", self.length, 1)

    @property
    @abstractmethod
    def num_tokens(self) -> int:
        """Number of token ids."""

    def scaled(self, multiple: int) -> "RowRule":
        """The rule of rows that are `multiple` times as long."""
        return replace(self, length=multiple * self.length)


def numbers(name: str, value: int | Sequence[int], meaning: str) -> tuple[int, ...]:
    """A setting that is a number >= 1, or a list of them for a mixture.

    Raises:
        UsageError: it is neither.
    """
    found = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not found:
        raise UsageError(f"{name}=[] must name at least one {meaning}")
    for number in found:
        require_integer(name, number, 1)
    return found


def mixture(values: Sequence[int], first_row: int, rows: int) -> tuple[np.ndarray, list[tuple[int, slice]]]:
    """Equal shares of a mixture: row r of a stream has `values[r % len(values)]`.

    Returns:
        the value of every row, int64 [rows]; each value with its rows.
    """
    period = len(values)
    labels = np.array(values, dtype=np.int64)[np.arange(first_row, first_row + rows) % period]
    return labels, [(value, slice((place - first_row) % period, None, period)) for place, value in enumerate(values)]


@dataclass(frozen=True)
class Sets:
    """Sizes of the sets.

    Args:
        num_train: None makes new rows for every step; a number makes that many and reshuffles them every epoch.
        num_val: rows for validation and as many others for the test, at each length.
        val_lengths: validation rows in multiples of the training length, one loader each.
    """

    num_train: int | None
    num_val: int
    val_lengths: Sequence[int]

    def __post_init__(self) -> None:
        require_sizes(num_train=self.num_train, num_val=self.num_val)
        require_multiples(self.val_lengths)


class GeneratedData(BatchDataModule):
    """Rows that a rule draws.

    A batch has `tokens`, `targets` and `groups`; see `lcsm.batch`. A subclass names its rule,

        class Copying(GeneratedData, rule=CopyingRule): ...

    and takes the fields of the rule, of `Sets` and of `Loading` by name, as the keys of its YAML.

    Attributes:
        task: the option of `task/` for these data, which messages recommend.
    Args:
        rule: how rows are made.
        sets: how many of them.
        loading: how batches are loaded. Rows of k times the length come in batches of batch_size / k.
    """

    task = "mqar"

    def __init_subclass__(cls, rule: type[RowRule] | None = None, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if rule is not None:
            cls.__init__ = flat(GeneratedData.__init__, rule=rule)  # type: ignore[method-assign]

    def __init__(self, rule: RowRule, sets: Sets, loading: Loading) -> None:
        super().__init__(rule.length, loading)
        self.rule, self.sets = rule, sets

    @property
    def vocab_size(self) -> int:
        return self.rule.num_tokens

    @property
    def multiples(self) -> list[int]:
        """Lengths of the validation rows in multiples of the training length, in order."""
        return sorted(set(self.sets.val_lengths))

    @property
    def val_names(self) -> list[str]:
        return [f"{multiple}x" for multiple in self.multiples]

    def describe(self) -> dict[str, Any]:
        """The settings of the rule and the sizes of the sets (`train_examples` null = new ones for every step)."""
        rule = vars(self.rule).items()
        return {
            "kind": type(self).__name__.lower(),
            "vocab_size": self.vocab_size,
            **{name: " ".join(map(str, value)) if isinstance(value, list | tuple) else value for name, value in rule},
            "train_examples": self.sets.num_train,
            "validation_examples": self.sets.num_val,
        }

    def training_batches(self, shard: Shard) -> Dataset[Batch]:
        if self.sets.num_train is None:
            return FreshBatches(self.rule, collate, self.loading, shard)
        return EpochBatches(self._fixed(self.rule, TRAIN, self.sets.num_train), collate, self.loading, shard)

    def evaluation_batches(self, split: str, shard: Shard) -> dict[str, EvaluationBatches]:
        place = {"validation": VALIDATION, "test": TEST}[split]
        batches: dict[str, EvaluationBatches] = {}
        for multiple in self.multiples:
            rows = self._fixed(self.rule.scaled(multiple), place, self.sets.num_val)
            size = max(1, self.loading.batch_size // multiple)
            batches[f"{multiple}x"] = OrderedBatches(rows, collate, size, shard)
        return batches

    def _fixed(self, rule: RowRule, split: int, rows: int) -> Rows:
        return Rows.joined(list(rule.blocks(self.loading.seed, split, rows)))
