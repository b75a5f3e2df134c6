"""Decays that make the memory a running softmax over time."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.shapes import Float, Resets, Stream, Tensor, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.segments import resets_of
from lcsm.stages.settings import choose
from lcsm.structures import Context, Diagonal, widen

# Logarithm of the sum of no weights: finite, and nothing beside any logit.
LOG_ZERO = -1e30

# The log-sum-exp of all logits so far.
Running = Float[Tensor, "B H N"]


def log_sums_before(
    logits: Float[Tensor, "B L H N"], carried: Float[Tensor, "B H N"], fresh: Resets | None, log_start: float
) -> tuple[Float[Tensor, "B L H N"], Float[Tensor, "B H N"]]:
    """The log-sum-exp of the logits before each step, restarting where a document begins.

    Args:
        logits: [B L H N].
        carried: log-sum-exp of what came before, [B H N].
        fresh: True where a token begins a document, [B L]; None for one document.
        log_start: log-sum-exp at the start of a document.
    Returns:
        The log-sum-exp before each step, [B L H N], and after the last one, [B H N].
    """
    borders = [0]
    if fresh is not None:
        borders = sorted({0, *fresh.any(0).nonzero().flatten().tolist()})
    lengths = [stop - start for start, stop in zip(borders, [*borders[1:], logits.shape[1]], strict=True)]
    before = []
    for start, piece in zip(borders, logits.split(lengths, 1), strict=True):
        if fresh is not None:
            carried = carried.masked_fill(fresh[:, start, None, None], log_start)
        sums = torch.logaddexp(carried[:, None], piece.logcumsumexp(1))
        before.append(torch.cat([carried[:, None], sums[:, :-1]], 1))
        carried = sums[:, -1]
    return torch.cat(before, 1), carried


class CumulativeSoftmax(Oscillation):
    """Make every row of the memory the softmax-weighted mean of what was written into it so far.

        z_t = log sum_{s <= t} exp(k_s),   k = W x
        memory_t = exp(z_{t-1} - z_t) memory_{t-1} + (1 - exp(z_{t-1} - z_t)) expand_t input_t^T

    Decay and gain are sigmoids of z_{t-1} - k_t, which keeps both exact near 0 and 1. The log-sum-exp z is kept in
    `past` and restarts at a new document.

    Args:
        start: what the weights sum to before the first token: zero, so that its gain is 1; or one, an empty token of
            weight one whose value is zero.
    Returns:
        Diagonal with log-decays and gain, [B L H N 1].
    Source: EOS, o_type = 12 (LightNet, 2405.21022). The release clamps the modulus of k at 10, starts z at -1e5 and
        reads an undefined name; here nothing is clamped. A later release of its authors starts at one.
    """

    decay = "LHN"
    gain = "LHN"
    stateful = True

    def __init__(self, input_dim: int, num_heads: int, state_dim: int, start: Literal["zero", "one"]) -> None:
        super().__init__()
        self.log_start = choose("oscillation.start", start, {"zero": LOG_ZERO, "one": 0.0})
        self.sizes = (num_heads, state_dim)
        self.projection = nn.Linear(input_dim, num_heads * state_dim, bias=False)

    def forward(
        self, x: Stream, expand: Writes, past: Running | None = None, context: Context | None = None
    ) -> tuple[Diagonal, Running]:
        logits = widen(self.projection(x)).unflatten(-1, self.sizes)
        carried = torch.full_like(logits[:, 0], self.log_start) if past is None else past
        before, carried = log_sums_before(logits, carried, resets_of(context), self.log_start)
        margin = (before - logits)[..., None]
        structure = Diagonal(log_decay=F.logsigmoid(margin), gain=torch.sigmoid(-margin))
        return structure, carried

    def state_size(self) -> int:
        return self.sizes[0] * self.sizes[1]
