"""Fixed decays: the slopes of ALiBi."""

import math
from typing import Any, Literal

import torch

from lcsm.shapes import Factor, Float, Stream, Tensor
from lcsm.stages.base import Oscillation
from lcsm.stages.oscillation.decay import AXES, sizes
from lcsm.structures import Context, Diagonal, widen


def slopes(count: int) -> Float[Tensor, " count"]:
    """Log-decays of `count` systems, negative, in nats per step.

        -2^(-8 j / count), j = 1 .. count     where count is a power of two

    Otherwise those of the power of two below, then every second of the power of two above. The slowest is always
    -2^-8 (one e-fold in 256 steps) up to a power of two.

    Source: ALiBi (2108.12409), its code.
    """
    power = 1 << (count.bit_length() - 1)
    exact = -(2.0 ** (-8 * torch.arange(1, power + 1) / power))
    if power == count:
        return exact
    return torch.cat([exact, slopes(2 * power)[::2][: count - power]])


class Slopes(Oscillation):
    """Decay every entry at a fixed rate: exp(slope).

    The slopes are spread over all entries that have one of their own: the heads (`scalar`, as in TNL), all rows of all
    heads, all columns, or all entries. A single head with one scalar decays by exp(-2^-8) = 0.9961 per step.

    Args:
        axes: scalar, rows, columns or full.
        layer_scale: multiply the slopes of layer l by 1 - l / num_layers, so that upper layers remember longer (TNL).
    Returns:
        Diagonal with constant log-decays, [1 1 H 1 1], [1 1 H N 1], [1 1 H 1 P] or [1 1 H N P].
    Source: EOS, o_type = 4 (rows), 5 (columns) and 0 (full) with fixed decays. The release negates the slopes of type 0
        twice, which makes them grow (NaN after 64 steps), and trains those of type 5; here both are fixed and decay.
    """

    log_decay: Tensor

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        layer: int,
        num_layers: int,
        axes: Literal["scalar", "rows", "columns", "full"],
        layer_scale: bool,
    ) -> None:
        super().__init__()
        shape = sizes(axes, num_heads, state_dim, value_dim)
        self.decay = AXES[axes]
        scale = 1 - layer / num_layers if layer_scale else 1.0
        self.register_buffer("log_decay", scale * slopes(math.prod(shape)).view(1, 1, *shape))

    def forward(
        self, x: Stream, expand: Factor, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        return Diagonal(log_decay=widen(self.log_decay)), past
