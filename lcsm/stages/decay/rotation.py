"""Oscillations that turn the rows of a complex memory, with and without decay."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.parameters import mark
from lcsm.shapes import Float, Stream, Tensor, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.decay.axes import log_sigmoid_decay
from lcsm.stages.settings import positive
from lcsm.structures import Context, Diagonal, widen


def angles(num_heads: int, state_dim: int, base: float) -> Float[Tensor, "H N"]:
    """Angles in radians per step, spread over all rows of all heads: base^(-2 j / (H N)), j = 0 .. H N - 1.

    Source: LRPE (2307.09270); with one head, EOS, o_type = 11. The release divides j by the width of the model instead
        of the number of rows, which makes the last angles vanish (1e-16) in wide memories.
    """
    count = num_heads * state_dim
    return (base ** (-2 * torch.arange(count) / count)).view(num_heads, state_dim)


class Rotation(Oscillation):
    """Turn every row by an angle of its own at each step; nothing decays.

    Args:
        learned: whether the angles are trained or fixed.
        base: the angles run from 1 to nearly base^-2 radians per step, > 0.
    Returns:
        Diagonal with log-decays of zero, [1 1 1 1 1], and phases [1 1 H N 1].
    Source: EOS, o_type = 11 (fixed), which keeps cosine and sine as 2 N real rows.
    """

    phase = "HN"
    angles: Tensor
    zero: Tensor

    def __init__(self, num_heads: int, state_dim: int, learned: bool, base: float) -> None:
        super().__init__()
        start = angles(num_heads, state_dim, positive("oscillation.base", base))
        if learned:
            self.angles = mark(nn.Parameter(start), group="oscillation")
        else:
            self.register_buffer("angles", start)
        self.register_buffer("zero", torch.zeros(1, 1, 1, 1, 1), persistent=False)

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        return Diagonal(log_decay=widen(self.zero), phase=widen(self.angles)[None, None, :, :, None]), past


class DataDrivenRotation(Oscillation):
    """Turn every row by an angle that is projected from what the stage sees: W x_t radians; nothing decays.

    Returns:
        Diagonal with log-decays of zero, [1 1 1 1 1], and phases [B L H N 1].
    Source: the phase of GateLoop (2311.01927).
    """

    phase = "LHN"
    zero: Tensor

    def __init__(self, input_dim: int, num_heads: int, state_dim: int) -> None:
        super().__init__()
        self.sizes = (num_heads, state_dim, 1)
        self.projection = nn.Linear(input_dim, num_heads * state_dim, bias=False)
        self.register_buffer("zero", torch.zeros(1, 1, 1, 1, 1), persistent=False)

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        # angles add up over the sequence, and with them the rounding of a half-precision projection
        with torch.autocast(x.device.type, enabled=False):
            phase = F.linear(widen(x), widen(self.projection.weight)).unflatten(-1, self.sizes)
        return Diagonal(log_decay=widen(self.zero), phase=phase), past


class ComplexDecay(Oscillation):
    """Turn and decay every row at trained rates: sigmoid(a)^(1 / tau) exp(i angle).

    Args:
        tau: temperature; larger forgets more slowly. Dimensionless, > 0.
        std: standard deviation of the normal initialisation of a.
        base: the angles start as those of `Rotation`.
    Returns:
        Diagonal with constant log-decays and phases, [1 1 H N 1].
    Source: the modulus of EOS, o_type = 4 (learned), with the angles of o_type = 11, learned; as LRU and S4D.
    """

    decay = "HN"
    phase = "HN"

    def __init__(self, num_heads: int, state_dim: int, tau: float, std: float, base: float) -> None:
        super().__init__()
        self.tau = positive("oscillation.tau", tau)
        start = angles(num_heads, state_dim, positive("oscillation.base", base))
        self.angles = mark(nn.Parameter(start), group="oscillation")
        self.logits = mark(nn.Parameter(std * torch.randn(num_heads, state_dim)), group="oscillation")

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        log_decay = log_sigmoid_decay(self.logits, self.tau)[None, None, :, :, None]
        return Diagonal(log_decay=log_decay, phase=widen(self.angles)[None, None, :, :, None]), past
