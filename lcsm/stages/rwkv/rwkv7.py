"""The oscillation of RWKV-7: a decay per row, and one direction per token along which the memory is replaced."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.parameters import mark
from lcsm.shapes import Float, Stream, Tensor, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.delta.delta_rule import whole
from lcsm.stages.rwkv.bonus import depth
from lcsm.stages.rwkv.rwkv7_stages import LowRankMap, centred
from lcsm.structures import Context, LowRank, widen

# The largest rate of forgetting: exp(-0.5) nats per step, a decay of 0.545.
LARGEST_RATE = 0.6065306597126334


def bowl(num_heads: int, state_dim: int) -> Float[Tensor, " W"]:
    """A ramp from -1 to 1 over the rows of a head, flat in the middle."""
    along = torch.linspace(-1.0, 1.0, state_dim) if state_dim > 1 else torch.zeros(state_dim)
    return (along * along.abs()).repeat(num_heads)


class Rwkv7(Oscillation):
    """Decay every row, then replace a share of what is found along the key.

        memory_t = (diag(decay_t) - (rate_t key_t) key_t^T) memory_{t-1} + (expand_t (1 + (rate_t - 1) mix)) input_t^T
        log decay_t = -exp(-0.5) sigmoid(offset + V tanh(U x)),   rate_t = sigmoid(offset + V U x)
        key_t = expand_t * scale, of length one

    It reads two streams side by side, as `source=rwkv7` gives them, or one for both.

    Args:
        decay_rank, rate_rank: rows of U, > 0.
    Returns:
        LowRank with decays, left, right and gain [B L H N 1].
    Source: RWKV-7 (2503.14456); initial values as in its code.
    """

    kind = "low_rank"
    decay = "LHN"
    gain = "LHN"

    def __init__(
        self,
        input_dim: int,
        d_model: int,
        num_heads: int,
        state_dim: int,
        layer: int,
        num_layers: int,
        decay_rank: int,
        rate_rank: int,
    ) -> None:
        super().__init__()
        count = num_heads * state_dim
        self.sizes, self.parts = (num_heads, state_dim, 1), 2 if input_dim == 2 * d_model else 1
        along, rows = centred(count), bowl(num_heads, state_dim)
        slope = -6 + 6 * (along + 0.5) ** (1 + depth(layer, num_layers) ** 0.3)
        width = input_dim // self.parts
        slope, start, own = slope + 0.5 + 2.5 * rows, -0.19 + 0.3 * rows + 0.4 * along, "oscillation"
        self.log_decay = LowRankMap(width, count, decay_rank, slope, torch.tanh, group=own)
        self.rate = LowRankMap(width, count, rate_rank, start, group=own)
        self.scale = mark(nn.Parameter((0.71 - 0.1 * along).view(self.sizes)))
        self.mix = mark(nn.Parameter(torch.full(self.sizes, 1.02)))

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[LowRank, Any]:
        decay, rate = x.chunk(2, -1) if self.parts == 2 else (x, x)
        log_decay = -LARGEST_RATE * torch.sigmoid(widen(self.log_decay(decay))).unflatten(-1, self.sizes)
        share = torch.sigmoid(widen(self.rate(rate))).unflatten(-1, self.sizes)
        key = F.normalize(whole(expand, self.sizes[1]) * self.scale, dim=3)
        gain = 1 + (share - 1) * widen(self.mix)
        return LowRank(log_decay=log_decay, left=key * share, right=-key, gain=gain), past
