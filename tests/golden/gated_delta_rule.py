"""The delta rule after a decay per head."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.golden.case import Case
from tests.golden.low_rank import erasing, replay_map


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    return replay_map(case, lambda leaves: erasing(leaves["k"], leaves["k"], leaves["beta"], leaves["g"]))
