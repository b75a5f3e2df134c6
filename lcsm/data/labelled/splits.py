"""Splits of data that come in one piece: the same for every seed of a run."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lcsm.data.sampling import stream

# the seed that the S4 family splits with; the split itself is ours
SEED = 42


@dataclass(frozen=True)
class Shares:
    """Shares of the examples that go to each split, in a fixed random order.

    Args:
        shares: by name of the split, in order; they add up to 1.
    """

    shares: Mapping[str, float]

    def indices(self, count: int, split: str) -> np.ndarray:
        """Examples of a split out of `count`, int64."""
        names = list(self.shares)
        ends = np.round(np.cumsum([self.shares[name] for name in names]) * count).astype(np.int64)
        bounds = [0, *ends.tolist()]
        place = names.index(split)
        return stream(SEED, 0).permutation(count)[bounds[place] : bounds[place + 1]]
