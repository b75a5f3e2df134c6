"""Copying: a string of random symbols, which is asked for again behind a delimiter."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lcsm.data.generated import GeneratedData, RowRule, Rows, mixture, numbers
from lcsm.data.settings import require_integer
from lcsm.errors import UsageError

# ids: blank, delimiter, then the symbols
DELIMITER, FIRST_SYMBOL = 1, 2


@dataclass(frozen=True)
class CopyingRule(RowRule):
    """The rule of a row: a string of uniform symbols, a delimiter, and room for the copy.

        tokens   a  b  c  |  .  .  .  .  .        forced   a  b  c  |  a  b  .  .  .
        targets  -  -  -  -  a  b  c  -  -                 -  -  -  a  b  c  -  -  -

    Args:
        length: tokens in a row.
        vocab_size: ids, two more than symbols.
        num_symbols: symbols in a string, or a list for a mixture with equal shares.
        forced: show each symbol of the copy before the next one is asked for, as a language model is trained.
    Raises:
        UsageError: the copy does not fit the length.
    Source: Jelassi et al. 2024, arXiv 2402.01032; blanks in place of the copy: Graves et al. 2014, arXiv 1410.5401.
    """

    vocab_size: int
    num_symbols: int | Sequence[int]
    forced: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("data.vocab_size", self.vocab_size, FIRST_SYMBOL + 2)
        most = max(self.mixed)
        if 2 * most + 1 > self.length:
            raise UsageError(
                f"data.num_symbols={most} needs {2 * most + 1} tokens with its copy, but data.length={self.length};\n"
                f"use data.length={2 * most + 1} or more, or fewer symbols"
            )

    @property
    def num_tokens(self) -> int:
        return self.vocab_size

    @property
    def mixed(self) -> tuple[int, ...]:
        """Lengths of the strings of the mixture."""
        return numbers("data.num_symbols", self.num_symbols, "number of symbols")

    def scaled(self, multiple: int) -> "CopyingRule":
        return replace(self, length=multiple * self.length, num_symbols=[multiple * number for number in self.mixed])

    def draw(self, random: np.random.Generator, first_row: int, rows: int) -> Rows:
        tokens, targets = Rows.blank(rows, self.length)
        labels, parts = mixture(self.mixed, first_row, rows)
        for number, chosen in parts:
            symbols = random.integers(FIRST_SYMBOL, self.vocab_size, size=(len(tokens[chosen]), number))
            tokens[chosen, :number] = symbols
            tokens[chosen, number] = DELIMITER
            if self.forced:
                tokens[chosen, number + 1 : 2 * number] = symbols[:, :-1]
            first = number if self.forced else number + 1
            targets[chosen, first : first + number] = symbols
        return Rows(tokens, targets, {"symbols": labels})


class Copying(GeneratedData, rule=CopyingRule):
    """Copying, with the length of each string in the group `symbols`."""

    task = "copying"
