"""What generated data have in common: a rule that draws rows, and the random stream of each of its sets."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from lcsm.data.sampling import TRAIN, stream

Drawn = TypeVar("Drawn")


class Rule(ABC, Generic[Drawn]):
    """How rows are made; a subclass is a frozen dataclass of its settings.

    Rows are a function of (seed, split, place), whatever was drawn before, so that a resumed run goes on exactly.

    Attributes:
        BLOCK: rows of a fixed set that one random stream makes; a constant, so that the set depends on nothing else.
    """

    BLOCK: ClassVar[int] = 1024

    @abstractmethod
    def draw(self, random: np.random.Generator, first_row: int, rows: int) -> Drawn:
        """Make rows `first_row` to `first_row + rows` of a stream."""

    def fresh(self, seed: int, index: int, rows: int) -> Drawn:
        """Global training batch `index`, which shares no row with any other."""
        return self.draw(stream(seed, TRAIN, 2, index), index * rows, rows)

    def places(self, split: int, rows: int) -> list[tuple[int, int, int]]:
        """The blocks of a fixed set: its split, first row and number of rows."""
        return [(split, start, min(self.BLOCK, rows - start)) for start in range(0, rows, self.BLOCK)]

    def block(self, seed: int, place: tuple[int, int, int]) -> Drawn:
        """One block of a fixed set."""
        split, start, rows = place
        return self.draw(stream(seed, split, 1, start), start, rows)

    def blocks(self, seed: int, split: int, rows: int) -> Iterator[Drawn]:
        """A fixed set of `rows` rows, block by block."""
        return (self.block(seed, place) for place in self.places(split, rows))

    def facts(self) -> dict[str, Any]:
        """The settings, lists as one text."""
        return {
            name: " ".join(map(str, value)) if isinstance(value, list | tuple) else value
            for name, value in vars(self).items()
        }
