"""Learned decays, the same at every step."""

from typing import Any, Literal

import torch
from torch import nn

from lcsm.parameters import mark
from lcsm.shapes import Stream, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.decay.axes import AXES, log_sigmoid_decay, sizes
from lcsm.stages.settings import positive
from lcsm.structures import Context, Diagonal


class LearnedDecay(Oscillation):
    """Decay every entry at a trained rate: sigmoid(a)^(1 / tau), a = std * N(0, 1) at first.

    Args:
        axes: scalar (one per head), rows, columns or full.
        tau: temperature; larger forgets more slowly. Dimensionless, > 0.
        std: standard deviation of the normal initialisation.
    Returns:
        Diagonal with constant log-decays, [1 1 H 1 1], [1 1 H N 1], [1 1 H 1 P] or [1 1 H N P].
    Source: EOS, o_type = 4 (rows), 5 (columns) and 0 (full) with learned decays. Without tau the release takes
        exp(-a), which exceeds 1 for negative a (NaN after 512 steps); here every decay is below 1.
    """

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        axes: Literal["scalar", "rows", "columns", "full"],
        tau: float,
        std: float,
    ) -> None:
        super().__init__()
        self.tau = positive("oscillation.tau", tau)
        shape = sizes(axes, num_heads, state_dim, value_dim)
        self.decay = AXES[axes]
        self.logits = mark(nn.Parameter(std * torch.randn(shape)), group="oscillation")

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        return Diagonal(log_decay=log_sigmoid_decay(self.logits, self.tau)[None, None]), past
