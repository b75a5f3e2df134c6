"""The identity plus any outer product."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.structures import LowRank
from tests.golden.case import Case
from tests.golden.low_rank import column, replay_map


def structure(leaves: dict[str, Tensor]) -> LowRank:
    """I + beta alpha^T."""
    log_decay = leaves["k"].new_zeros(1, 1, 1, 1, 1)
    return LowRank(log_decay=log_decay, left=column(leaves["beta"]), right=column(leaves["alpha"]))


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    return replay_map(case, structure)
