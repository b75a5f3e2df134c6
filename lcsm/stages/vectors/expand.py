"""Expands that write the input along a row of weights: keys."""

from typing import Any

import torch

from lcsm.shapes import Factor, Stream, Tensor
from lcsm.stages.base import Expand
from lcsm.stages.vectors.base import DataDrivenVector, HandCraftedVector, LearnedVector
from lcsm.structures import Context


class HandCraftedExpand(HandCraftedVector, Expand):
    """A fixed expand, [1 1 1 1 1], [1 1 1 N 1] or [1 1 H N 1]."""

    group = "expand"


class LearnedExpand(LearnedVector, Expand):
    """A trained expand, [1 1 H N 1] or [1 1 H N P]."""

    group = "expand"


class DataDrivenExpand(DataDrivenVector, Expand):
    """An expand projected from what the stage sees, [B L H N 1].

    With `input=ones` and value_dim = 1 this is the write B x_t of a multiple-input system (S5, LDNN, LRU).
    """

    group = "expand"


class Newest(Expand):
    """One for the first row and zero for all others, [1 1 1 N 1]: with `oscillation=shift` row j is j tokens old."""

    varies = "N"
    direction: Tensor

    def __init__(self, state_dim: int) -> None:
        super().__init__()
        direction = torch.zeros(1, 1, 1, state_dim, 1)
        direction[:, :, :, 0] = 1
        self.register_buffer("direction", direction, persistent=False)

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Factor, Any]:
        return self.direction, past
