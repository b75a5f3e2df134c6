"""How many of everything, from the environment: `FAULTS_KILLS=100 make faults`."""

from __future__ import annotations

import os


def count(name: str, default: int) -> int:
    """The number in the variable FAULTS_<name>."""
    return int(os.environ.get(f"FAULTS_{name}") or default)
