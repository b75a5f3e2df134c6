"""The delta rule that erases what is found along another vector than the key."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.golden.case import Case
from tests.golden.low_rank import erasing, replay_map


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    return replay_map(case, lambda leaves: erasing(leaves["k"], leaves["p"], leaves["beta"], leaves["g"]))
