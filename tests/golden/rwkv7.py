"""The sequence map of RWKV-7: a diagonal plus any outer product."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.structures import LowRank
from tests.golden.case import Case
from tests.golden.low_rank import column, replay_map


def structure(leaves: dict[str, Tensor]) -> LowRank:
    """diag(exp(gk)) + beta alpha^T."""
    return LowRank(log_decay=column(leaves["gk"]), left=column(leaves["beta"]), right=column(leaves["alpha"]))


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    return replay_map(case, structure)
