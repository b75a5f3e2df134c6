"""Decays exp(-exp(w)): RWKV."""

from typing import Any, Literal

import torch
from torch import nn

from lcsm.parameters import mark, own_start
from lcsm.shapes import RealFactor, Stream, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.rwkv.bonus import depth
from lcsm.stages.settings import choose
from lcsm.structures import Context, Diagonal, widen

AXES = {"scalar": "H", "rows": "HN"}


class ExponentialRate(Oscillation):
    """Decay at a rate of exp(w) nats per step, learned, or following the tokens.

        log-decay = -exp(w + V tanh(U x_t)),   w_j = start + span (j / (count - 1))^(0.7 + 1.3 depth) at first

    Args:
        axes: scalar (one decay per head) or rows (one per row); j counts over all of them.
        start, span: of w. With depth from 0 in the first layer to 1 in the last, deeper layers remember longer.
        rank: rank of V U; null for a decay that does not follow the tokens.
    Returns:
        Diagonal with log-decays [1 1 H 1 1] or [1 1 H N 1], [B L H ...] with a rank.
    Source: RWKV-4 (2305.13048) scalar, -5 and 8, where every channel is a head; RWKV-5 (2404.05892) rows, -6 and 5;
        RWKV-6 the same with rank 64, U starting at zero, V uniform in +-0.01.
    """

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        state_dim: int,
        layer: int,
        num_layers: int,
        axes: Literal["scalar", "rows"],
        start: float,
        span: float,
        rank: int | None,
    ) -> None:
        super().__init__()
        named = choose("oscillation.axes", axes, AXES)
        self.decay = named if rank is None else f"L{named}"
        shape = (num_heads, state_dim if axes == "rows" else 1)
        count = shape[0] * shape[1]
        along = (torch.arange(count) / max(count - 1, 1)) ** (0.7 + 1.3 * depth(layer, num_layers))
        self.log_rate = mark(nn.Parameter((start + span * along).view(*shape, 1)), group="oscillation")
        self.reduce_rate: nn.Linear | None = None
        if rank is not None:
            self.reduce_rate = own_start(nn.Linear(input_dim, rank, bias=False))
            nn.init.zeros_(self.reduce_rate.weight)
            self.expand_rate = own_start(nn.Linear(rank, count, bias=False))
            nn.init.uniform_(self.expand_rate.weight, -0.01, 0.01)

    def log_decay(self, x: Stream) -> RealFactor:
        """Log-decays of every step."""
        log_rate = widen(self.log_rate)[None, None]
        if self.reduce_rate is not None:
            log_rate = log_rate + widen(self.expand_rate(self.reduce_rate(x).tanh())).unflatten(-1, log_rate.shape[2:])
        return -log_rate.exp()

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        return Diagonal(log_decay=self.log_decay(x)), past


class WeightedRate(ExponentialRate):
    """A constant decay per head, and an unbounded weight of each write: exp(k_t), k = W x.

    Args:
        start, span: of the decays, as in `ExponentialRate`.
        log_scale_start: where the running maximum of the weights starts.
    Returns:
        Diagonal with log-decays [1 1 H 1 1] and log_gain [B L H 1 1].
    Source: RWKV-4 (2305.13048), where every channel is a head; its code starts the maximum at -1e38.
    """

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        state_dim: int,
        layer: int,
        num_layers: int,
        start: float,
        span: float,
        log_scale_start: float,
    ) -> None:
        super().__init__(input_dim, num_heads, state_dim, layer, num_layers, "scalar", start, span, None)
        self.log_scale_start = log_scale_start
        self.projection = nn.Linear(input_dim, num_heads, bias=False)

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        log_gain = widen(self.projection(x))[..., None, None]
        return Diagonal(log_decay=self.log_decay(x), log_gain=log_gain), past
