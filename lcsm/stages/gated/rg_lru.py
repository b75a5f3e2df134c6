"""The real-gated linear recurrent unit of Griffin and Hawk."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import Stream, Tensor, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.gated.channels import BlockLinear
from lcsm.stages.segments import resets_of
from lcsm.stages.settings import positive
from lcsm.structures import Context, Diagonal, widen

# The square root's derivative is held below this, as its authors do: it has no bound where nothing is forgotten.
STEEPEST = 1000.0


class _BoundedRoot(torch.autograd.Function):
    """The square root, with a derivative of at most STEEPEST."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.save_for_backward(value)
        return value.sqrt()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (value,) = ctx.saved_tensors
        return gradient / (4 * value).clamp_min(STEEPEST**-2).sqrt()


class RgLru(Oscillation):
    """Decay every head by a learned rate times a gate; what is written keeps the variance of the memory.

        log-decay = -c sigmoid(W x_t + b) softplus(p),   gain = sqrt(1 - decay^2)

    Args:
        c: factor of the log-decays, > 0.
        blocks: number of diagonal blocks of W; 1 for a full matrix.
        bias: whether the gate has one.
        rate_repeats: how often one set of p is repeated over the heads; 1 gives every head its own.
        modulus_range: at first exp(-softplus(p)) is the modulus of a point that is uniform on the ring between these.
        full_start: whether the first token of a document is written with gain 1.
    Returns:
        Diagonal with log-decays and gain, [B L H 1 1]; every channel is a head.
    Raises:
        UsageError: the range is no ring inside the unit circle, or blocks or rate_repeats do not divide the channels.
    Source: Griffin (2402.19427) and its code, with full_start.
    """

    decay = "LH"
    gain = "LH"

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        c: float,
        blocks: int,
        bias: bool,
        rate_repeats: int,
        modulus_range: list[float],
        full_start: bool,
    ) -> None:
        super().__init__()
        if len(modulus_range) != 2 or not 0 < modulus_range[0] <= modulus_range[1] < 1:
            raise UsageError(
                f"oscillation.modulus_range={modulus_range} must be two moduli, 0 < smallest <= largest < 1: "
                "use [0.9, 0.999]"
            )
        self.c = positive("oscillation.c", c)
        # which token is the first depends on where a pass begins
        self.full_start = self.stateful = full_start
        self.gate = BlockLinear(input_dim, num_heads, blocks, bias, "oscillation")
        if self.gate.bias is not None:
            mark(self.gate.bias, group="oscillation")
        if rate_repeats < 1 or num_heads % rate_repeats:
            raise UsageError(f"oscillation.rate_repeats={rate_repeats} must divide {num_heads} heads: use 1")
        self.repeats = rate_repeats
        square = torch.empty(num_heads // rate_repeats).uniform_(modulus_range[0] ** 2, modulus_range[1] ** 2)
        # softplus of it is -log(modulus)
        self.rate = mark(nn.Parameter(torch.expm1(-0.5 * square.log()).log()), group="oscillation")

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        rate = F.softplus(widen(self.rate)).repeat(self.repeats)
        log_decay = -self.c * torch.sigmoid(widen(self.gate(x))) * rate
        gain = _BoundedRoot.apply(-torch.expm1(2 * log_decay))
        if self.full_start:
            # the first token of all begins a document too
            first = torch.arange(x.shape[1], device=x.device)[:, None] == (0 if past is None else -1)
            resets = resets_of(context)
            gain = torch.where(first if resets is None else first | resets[..., None], 1.0, gain)
        return Diagonal(log_decay=log_decay[..., None, None], gain=gain[..., None, None]), ()
