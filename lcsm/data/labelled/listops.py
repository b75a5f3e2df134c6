"""ListOps: the value of a nested expression over lists of digits, generated or read from the released files."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lcsm.data.labelled.folders import file_facts, require_files
from lcsm.data.labelled.generated import GeneratedLabels, SplitSizes
from lcsm.data.labelled.listops_grammar import END, SYMBOLS, ListOpsRule, encode
from lcsm.data.labelled.store import LabelledSet, LabelledSource, joined
from lcsm.data.settings import CachedLoading, flat, require_integer
from lcsm.errors import UsageError

# the shortest expression has an operator with two digits
SHORTEST = 4


class ReleasedListOps(LabelledSource):
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


class ListOps(GeneratedLabels):
    """ListOps of the Long Range Arena; see `ListOpsRule` for the expressions and `LabelledData` for the batches.

    Args:
        root: folder with the released files; None generates expressions.
        length: longest row with its end, so that generated expressions have fewer than `length` tokens.
        min_length: generated expressions have more tokens than this.
        max_depth, max_arguments: see `ListOpsRule`.
        sizes: generated expressions.
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
        sizes: SplitSizes,
        loading: CachedLoading,
    ) -> None:
        rule = ListOpsRule(min_length, length, max_depth, max_arguments)
        super().__init__(length, root, rule, sizes, loading)
        require_integer("data.min_length", min_length, SHORTEST - 1)
        require_integer("data.max_depth", max_depth, 2)
        require_integer("data.max_arguments", max_arguments, 2)
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
        self.min_length = min_length

    def released(self, root: str) -> LabelledSource:
        return ReleasedListOps(root, self.length)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"min_length": self.min_length}


def longest(max_depth: int, max_arguments: int) -> int:
    """Tokens of the largest expression."""
    size = 1
    for _ in range(max_depth - 1):
        size = 2 + max_arguments * size
    return size
