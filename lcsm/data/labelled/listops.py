"""ListOps: the value of a nested expression over lists of digits, generated or read from the released files."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from lcsm.data.labelled.base import Collate, LabelledData
from lcsm.data.labelled.folders import file_facts, require_files
from lcsm.data.labelled.listops_grammar import END, SYMBOLS, ListOpsRule, encode
from lcsm.data.labelled.store import SPLITS, LabelledSet, Source, joined
from lcsm.data.sampling import TRAIN, Batch, Shard, stream
from lcsm.data.settings import CachedLoading, flat, require_integer, require_sizes
from lcsm.errors import UsageError

# rows that one random stream makes in a stored set; a constant, so that the set does not depend on the batch size
BLOCK = 256
# the shortest expression has an operator with two digits
SHORTEST = 4


def examples(rule: ListOpsRule, random: np.random.Generator, rows: int) -> LabelledSet:
    """Expressions and their values."""
    tokens, lengths, values = rule.draw(random, rows)
    return LabelledSet((joined(tokens, lengths),), values)


class GeneratedListOps(Source):
    """Expressions that the grammar makes.

    Args:
        rule: the grammar.
        sizes: examples of every split.
        seed: data seed.
    """

    name = "ListOps"
    dtype = np.uint8

    def __init__(self, rule: ListOpsRule, sizes: dict[str, int | None], seed: int) -> None:
        self.rule, self.sizes, self.seed = rule, sizes, seed
        self.settings = {"rule": vars(rule), "seed": seed}

    def blocks(self, split: str) -> Iterator[LabelledSet]:
        rows = self.sizes[split] or 0
        for start in range(0, rows, BLOCK):
            random = stream(self.seed, SPLITS.index(split), 1, start)
            yield examples(self.rule, random, min(BLOCK, rows - start))


class ReleasedListOps(Source):
    """The expressions of the Long Range Arena's release: basic_train.tsv, basic_val.tsv, basic_test.tsv.

    Args:
        root: their folder, `listops-1000` of lra_release.
        length: longest row with its end; longer expressions are cut, as published.
    """

    name = "ListOps files"
    dtype = np.uint8

    def __init__(self, root: str, length: int) -> None:
        names = {"train": "basic_train.tsv", "validation": "basic_val.tsv", "test": "basic_test.tsv"}
        self.paths = require_files(root, names, "folder listops-1000 of lra_release (long-range-arena)")
        self.length = length
        self.sizes = dict.fromkeys(names)
        self.settings = {"length": length, **file_facts(self.paths.values())}

    def blocks(self, split: str) -> Iterator[LabelledSet]:
        path = self.paths[split]
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, delimiter="\t")
            if next(rows, None) != ["Source", "Target"]:
                raise UsageError(f"{path}: the first line must name the columns Source and Target")
            for row in rows:
                yield self.example(path, rows.line_num, row)

    def example(self, path: Path, line: int, row: list[str]) -> LabelledSet:
        """The expression of one line."""
        ids = encode(row[0]) if len(row) == 2 else None
        if ids is None or row[1] not in tuple("0123456789"):
            raise UsageError(f"{path}, line {line}: expected an expression, a tab and its value 0 to 9")
        tokens = np.array([*ids[: self.length - 1], END], dtype=np.uint8)
        return LabelledSet((joined(tokens, np.array([len(tokens)])),), np.array([int(row[1])]))


class FreshListOps(Dataset[Batch]):
    """Training batches that never repeat an expression: batch i is drawn from (seed, i)."""

    def __init__(self, rule: ListOpsRule, collate: Collate, batch_size: int, seed: int, shard: Shard) -> None:
        self.rule, self.collate = rule, collate
        self.batch_size, self.seed, self.shard = batch_size, seed, shard

    def __getitem__(self, index: int) -> Batch:
        # every process draws the whole batch, so that the number of processes changes nothing
        drawn = examples(self.rule, stream(self.seed, TRAIN, 2, index), self.batch_size)
        together = np.arange(self.batch_size)
        return self.collate.batch(drawn, together[self.shard.slice(self.batch_size)], together)


class ListOps(LabelledData):
    """ListOps of the Long Range Arena; see `ListOpsRule` for the expressions and `LabelledData` for the batches.

    Args:
        root: folder with the released files; None generates expressions.
        length: longest row with its end, so that generated expressions have fewer than `length` tokens.
        min_length: generated expressions have more tokens than this.
        max_depth, max_arguments: see `ListOpsRule`.
        num_train: None makes new expressions for every step; a number makes that many and reshuffles them every epoch.
        num_val, num_test: generated expressions for validation and test.
        loading: see `LabelledData`.
    Raises:
        UsageError: a value is out of range, or files are missing.
    """

    num_classes = 10
    num_tokens = len(SYMBOLS)

    @flat
    def __init__(
        self,
        root: str | None,
        length: int,
        min_length: int,
        max_depth: int,
        max_arguments: int,
        num_train: int | None,
        num_val: int,
        num_test: int,
        loading: CachedLoading,
    ) -> None:
        super().__init__(length, loading)
        require_integer("data.min_length", min_length, SHORTEST - 1)
        require_integer("data.max_depth", max_depth, 2)
        require_integer("data.max_arguments", max_arguments, 2)
        require_sizes(num_train=num_train, num_val=num_val, num_test=num_test)
        if min_length + 1 >= length:
            raise UsageError(
                f"data.min_length={min_length} leaves no expression below data.length={length}: "
                f"set data.min_length={max(SHORTEST - 1, length // 4)} or a larger data.length"
            )
        if root is None and (most := longest(max_depth, max_arguments)) <= min_length:
            raise UsageError(
                f"data.max_depth={max_depth} and data.max_arguments={max_arguments} give at most {most} tokens, none "
                f"above data.min_length={min_length}: lower it, or allow deeper expressions"
            )
        self.rule = ListOpsRule(min_length, length, max_depth, max_arguments)
        self.root, self.fresh = root, num_train is None and root is None
        self.sizes: dict[str, int | None] = {"train": num_train, "validation": num_val, "test": num_test}

    def source(self) -> Source:
        if self.root is not None:
            return ReleasedListOps(self.root, self.length)
        sizes = {split: size for split, size in self.sizes.items() if size is not None or split != "train"}
        return GeneratedListOps(self.rule, sizes, self.loading.seed)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"min_length": self.rule.min_length, "generated": self.root is None}

    def training_batches(self, shard: Shard) -> Dataset[Batch]:
        if self.fresh:
            return FreshListOps(self.rule, self.collate(), self.loading.batch_size, self.loading.seed, shard)
        return super().training_batches(shard)


def longest(max_depth: int, max_arguments: int) -> int:
    """Tokens of the largest expression."""
    size = 1
    for _ in range(max_depth - 1):
        size = 2 + max_arguments * size
    return size
