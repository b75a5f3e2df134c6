"""Which process writes."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_only


def is_first_rank() -> bool:
    """Whether this process has global rank zero, also before a trainer exists."""
    return getattr(rank_zero_only, "rank", 0) == 0
