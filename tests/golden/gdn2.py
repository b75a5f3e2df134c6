"""The delta rule with a gate on every row of what is erased and on every column of what is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from lcsm.structures import Delta
from tests.golden.case import Case
from tests.golden.low_rank import erasing, replay_map


def structure(leaves: dict[str, Tensor]) -> Delta:
    """Strength one, the erase gate on what is read, the write gate as the gain."""
    key = leaves["k"]
    erased = erasing(key, leaves["b"] * key, torch.ones_like(key[..., 0]), leaves["g"])
    return replace(erased, gain=leaves["w"][:, :, :, None])


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    return replay_map(case, structure)
