"""Expand and shrink whose real channels are taken in pairs, for rotary positions."""

from typing import Any

import torch
from torch import nn

from lcsm.shapes import Factor, Stream
from lcsm.stages.activation import ELEMENTWISE
from lcsm.stages.base import Expand, Shrink, Stage
from lcsm.stages.settings import choose
from lcsm.structures import Context, widen


class PairedVector(Stage):
    """A projection of 2 N channels per head as N complex rows: channel 2n is the real part of row n, 2n + 1 the other.

    With an oscillation that turns row n by an angle per step, the real part of what is read is the product of keys and
    queries that are both turned by their positions: rotary position embedding.

    Args:
        activation: applied to the real channels, an elementwise one of `activation.ELEMENTWISE`.
        scaled: multiply by (2 N)^-0.5.
    Returns:
        The complex direction, [B L H N 1]; a shrink is conjugate.
    Source: rotary position embedding (2104.09864); RetNet (2307.08621).
    """

    group: str
    varies = "LHN"

    def __init__(self, input_dim: int, num_heads: int, state_dim: int, activation: str, scaled: bool) -> None:
        super().__init__()
        self.sizes = (num_heads, state_dim, 2)
        self.scale = (2 * state_dim) ** -0.5 if scaled else 1.0
        self.activation = choose(f"{self.group}.activation", activation, ELEMENTWISE)
        self.projection = nn.Linear(input_dim, 2 * num_heads * state_dim, bias=False)

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Factor, Any]:
        channels = self.scale * widen(self.activation(self.projection(x))).unflatten(-1, self.sizes)
        return torch.view_as_complex(channels)[..., None], past


class PairedExpand(PairedVector, Expand):
    """Keys in pairs of channels."""

    complex_values = True
    group = "expand"


class PairedShrink(PairedVector, Shrink):
    """Queries in pairs of channels, conjugate."""

    group = "shrink"
    complex_memory = True

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Factor, Any]:
        direction, past = super().vector(x, past, context)
        return direction.conj(), past
