"""The rank of this process, and whether it is the one that writes."""

from __future__ import annotations

import os

# how those who start several processes number them, in the order in which Lightning asks
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def is_first_rank() -> bool:
    """Whether this process has global rank zero, also before a trainer exists."""
    from lightning.pytorch.utilities import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0


def was_started_first() -> bool:
    """Whether this process was started as the first one; needs no import that takes time."""
    return next((os.environ[name] for name in RANKS if name in os.environ), "0") == "0"
