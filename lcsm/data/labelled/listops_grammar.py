"""ListOps expressions, many at a time: a tree is drawn level by level, and so are its values and its tokens."""

from dataclasses import dataclass

import numpy as np

from lcsm.data.labelled.store import LabelledSet, joined
from lcsm.data.rules import Rule

# 0 is the padding
END = 1
DIGITS = tuple(str(digit) for digit in range(10))
OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
# the published tokeniser keeps letters only and therefore writes X for the closing bracket
CLOSE = "X"
SYMBOLS = ("<padding>", "<end>", *DIGITS, *OPERATORS, CLOSE)
FIRST_DIGIT, FIRST_OPERATOR, CLOSING = SYMBOLS.index("0"), SYMBOLS.index("[MIN"), SYMBOLS.index(CLOSE)
IDS = {symbol: index for index, symbol in enumerate(SYMBOLS)}

# probability that a node above the last level is an operator, in the released generator
OPERATOR_SHARE = 0.25


@dataclass
class Level:
    """The nodes of one depth of all trees, in the order of their parents.

    Args:
        arguments: number of arguments of each node, 0 for a digit, int64 [nodes].
        sizes: tokens below and with each node, int64 [nodes].
    """

    arguments: np.ndarray
    sizes: np.ndarray

    @property
    def operators(self) -> np.ndarray:
        """The mask of nodes that are operators, [nodes]."""
        return self.arguments > 0

    @property
    def firsts(self) -> np.ndarray:
        """Index of the first argument of each operator among the nodes of the next level."""
        counts = self.arguments[self.operators]
        return np.cumsum(counts) - counts


@dataclass(frozen=True)
class ListOpsRule(Rule[LabelledSet]):
    """The grammar of the expressions.

    Args:
        min_length, max_length: tokens of an expression lie strictly between; its end is not counted.
        max_depth: levels of a tree.
        max_arguments: arguments of an operator, from 2 on.
    Source: Nangia & Bowman 2018 (arXiv 1804.06028) with the settings of the Long Range Arena (arXiv 2011.04006): 500,
        2000, 10 and 10; MIN, MAX, MED and SM (sum modulo 10).
    """

    BLOCK = 256

    min_length: int
    max_length: int
    max_depth: int
    max_arguments: int

    def draw(self, random: np.random.Generator, first_row: int, rows: int) -> LabelledSet:
        """Expressions, uint8, each closed by `END`, with their values."""
        parts, found = [], 0
        while found < rows:
            tokens, lengths, values = self._round(random, max(256, 8 * rows))
            parts.append((tokens, lengths, values))
            found += len(lengths)
        tokens, lengths, values = (np.concatenate(part) for part in zip(*parts, strict=True))
        chosen = lengths[:rows]
        return LabelledSet((joined(tokens[: chosen.sum()], chosen),), values[:rows])

    def _round(self, random: np.random.Generator, trees: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        levels = self._grow(random, trees)
        sizes = levels[0].sizes
        levels = select(levels, (sizes > self.min_length) & (sizes < self.max_length))
        lengths = levels[0].sizes + 1
        tokens = np.full(lengths.sum(), END, dtype=np.uint8)
        if not len(lengths):
            return tokens, lengths, lengths
        kinds = [random.integers(len(OPERATORS), size=int(level.operators.sum())) for level in levels]
        digits = [random.integers(len(DIGITS), size=int((~level.operators).sum())) for level in levels]
        write(tokens, levels, np.cumsum(lengths) - lengths, kinds, digits)
        return tokens, lengths, evaluate(levels, kinds, digits)

    def _grow(self, random: np.random.Generator, trees: int) -> list[Level]:
        levels: list[Level] = []
        nodes = trees
        for depth in range(1, self.max_depth + 1):
            arguments = random.integers(2, self.max_arguments + 1, size=nodes)
            if depth < self.max_depth:
                arguments[random.random(nodes) > OPERATOR_SHARE] = 0
            else:
                arguments[:] = 0
            levels.append(Level(arguments, np.ones(nodes, dtype=np.int64)))
            nodes = int(arguments.sum())
            if not nodes:
                break
        for level, below in zip(levels[-2::-1], levels[:0:-1], strict=True):
            # an operator is its name, its arguments and the closing bracket
            level.sizes[level.operators] = 2 + np.add.reduceat(below.sizes, level.firsts)
        return levels


def select(levels: list[Level], keep: np.ndarray) -> list[Level]:
    """The trees whose roots are kept."""
    kept = []
    for level in levels:
        kept.append(Level(level.arguments[keep], level.sizes[keep]))
        keep = np.repeat(keep, level.arguments)
        if not keep.any():
            break
    return kept


def write(
    tokens: np.ndarray, levels: list[Level], places: np.ndarray, kinds: list[np.ndarray], digits: list[np.ndarray]
) -> None:
    """Write every node of the trees into the tokens, from the roots down.

    Args:
        tokens: uint8, changed in place.
        places: where the tokens of each root begin, int64 [trees].
        kinds, digits: operators and digits of every level, in order.
    """
    for depth, level in enumerate(levels):
        operators = level.operators
        tokens[places[~operators]] = FIRST_DIGIT + digits[depth]
        opening = places[operators]
        tokens[opening] = FIRST_OPERATOR + kinds[depth]
        tokens[opening + level.sizes[operators] - 1] = CLOSING
        if depth + 1 < len(levels):
            sizes, counts = levels[depth + 1].sizes, level.arguments[operators]
            before = np.cumsum(sizes) - sizes
            places = before + np.repeat(opening + 1 - before[level.firsts], counts)


def evaluate(levels: list[Level], kinds: list[np.ndarray], digits: list[np.ndarray]) -> np.ndarray:
    """Values of the roots, from the last level up, int64 [trees]."""
    below = np.empty(0, dtype=np.int64)
    for level, kind, digit in zip(reversed(levels), reversed(kinds), reversed(digits), strict=True):
        values = np.empty(len(level.arguments), dtype=np.int64)
        values[~level.operators] = digit
        if len(kind):
            values[level.operators] = combine(below, level.firsts, level.arguments[level.operators], kind)
        below = values
    return below


def combine(values: np.ndarray, firsts: np.ndarray, counts: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Results of operators over consecutive groups of values.

    Args:
        values: arguments of all operators, int64.
        firsts, counts: where the arguments of each operator begin and how many there are.
        kinds: index into `OPERATORS` of each.
    """
    ordered = values[np.lexsort((values, np.repeat(np.arange(len(firsts)), counts)))]
    # the median of an even number is the mean of the middle two, rounded down
    median = (ordered[firsts + (counts - 1) // 2] + ordered[firsts + counts // 2]) // 2
    total = np.add.reduceat(values, firsts) % 10
    return np.choose(kinds, [ordered[firsts], ordered[firsts + counts - 1], median, total])


def encode(expression: str) -> list[int] | None:
    """Ids of a written expression such as `[MAX 2 ( [MIN 4 7 ] ) ]`, without an end; None if it has other symbols."""
    words = expression.replace("(", " ").replace(")", " ").replace("]", CLOSE).split()
    ids = [IDS.get(word, -1) for word in words]
    return None if min(ids, default=-1) < FIRST_DIGIT else ids


def decode(ids: np.ndarray) -> str:
    """The expression that ids stand for, padding and end left out."""
    return " ".join(SYMBOLS[index] for index in ids if index >= FIRST_DIGIT)
