"""Oscillations that erase what the memory holds along a key before anything is written there: the delta rule."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import Float, RealFactor, Stream, Tensor, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.settings import choose, positive
from lcsm.stages.state_space.mamba import step_bias
from lcsm.structures import Context, Delta, widen

GATES: dict[str, str | None] = {"none": None, "head": "LH", "rows": "LHN"}


class ForgetGate(nn.Module):
    """Data-driven log-decays <= 0, in float32.

        -exp(log_rate_h) softplus(U_2 U_1 x_t + bias),   or   lower_bound sigmoid(exp(log_rate_h) (U_2 U_1 x_t + bias))

    Args:
        input_dim: width of x.
        count: decays per head, 1 or N.
        rank: rows of U_1; None leaves U_1 out.
        rate_range: smallest and largest rate at first, uniform between; one rate per head.
        step_range: smallest and largest softplus(bias) at first, log-uniform between; None starts the bias at zero.
        lower_bound: smallest log-decay, < 0; None for no bound.
    Raises:
        UsageError: a range is not two positive numbers in order, or the bound is not negative.
    """

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        count: int,
        rank: int | None,
        rate_range: list[float],
        step_range: list[float] | None,
        lower_bound: float | None,
    ) -> None:
        super().__init__()
        if len(rate_range) != 2 or not 0 < rate_range[0] <= rate_range[1]:
            raise UsageError(
                f"oscillation.rate_range={rate_range} must be two rates, 0 < smallest <= largest: use [1.0, 16.0]"
            )
        if lower_bound is not None and not lower_bound < 0:
            raise UsageError(f"oscillation.lower_bound={lower_bound} must be below 0: use -5.0, or null for no bound")
        self.lower_bound, self.sizes = lower_bound, (num_heads, count)
        self.reduce = nn.Linear(input_dim, rank, bias=False) if rank is not None else nn.Identity()
        self.project = nn.Linear(input_dim if rank is None else rank, num_heads * count, bias=False)
        rates = torch.empty(num_heads).uniform_(*rate_range)
        self.log_rate = mark(nn.Parameter(rates.log()), group="oscillation")
        start = torch.zeros(num_heads * count) if step_range is None else step_bias(num_heads * count, step_range)
        self.bias = mark(nn.Parameter(start), group="oscillation")

    def forward(self, x: Stream) -> RealFactor:
        """Log-decays [B L H count 1]."""
        logits = (widen(self.project(self.reduce(x))) + self.bias).unflatten(-1, self.sizes)
        rate = widen(self.log_rate).exp()[:, None]
        if self.lower_bound is None:
            return (-rate * F.softplus(logits))[..., None]
        return (self.lower_bound * torch.sigmoid(rate * logits))[..., None]


class DeltaRule(Oscillation):
    """Forget, erase what is found along the key, and leave room for the new value.

        memory_t = (I - beta_t key_t key_t^T) diag(decay_t) memory_{t-1} + beta_t key_t input_t^T

    The key is the expand, which should be of length one (`expand=key`): then every factor is a contraction.

    Args:
        largest_beta: beta_t = largest_beta * sigmoid(W x_t), one per head and substep; at most 2. Above 1 a
            key is not only erased but turned around (negative eigenvalues, 2411.12537).
        gate: what decays before that: none, head (one decay per head) or rows (one per row of the memory).
        rank, rate_range, step_range, lower_bound: those of `ForgetGate`, rank also value_dim; rank and lower_bound are
            None where gate=none, and the ranges are not read.
        inner_decay: what is erased along the key is scaled by a learned sigmoid per head (Comba).
        substeps: erased and written keys per token; a decay acts before the first of them.
    Returns:
        Delta with beta and gain [B L*substeps H 1 1].
    Raises:
        UsageError: largest_beta is not in (0, 2], substeps < 1, or gate=none has settings of a gate.
    Source: Fast Weight Programmers (2102.11174), DeltaNet (2406.06484), Gated DeltaNet (2412.06464), KDA (2510.26692),
        Comba (2506.02475), DeltaProduct (2502.10297).
    """

    kind = "low_rank"
    gain = "LH"

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        largest_beta: float,
        gate: Literal["none", "head", "rows"],
        rank: int | Literal["value_dim"] | None,
        rate_range: list[float],
        step_range: list[float] | None,
        lower_bound: float | None,
        inner_decay: bool,
        substeps: int,
    ) -> None:
        super().__init__()
        if not 0 < largest_beta <= 2:
            raise UsageError(
                f"oscillation.largest_beta={largest_beta} must be in (0, 2], or the memory grows: use 1 or 2"
            )
        self.substeps = int(positive("oscillation.substeps", substeps))
        self.largest_beta, self.num_heads, self.state_dim = largest_beta, num_heads, state_dim
        self.decay = choose("oscillation.gate", gate, GATES)
        for name, value in (("rank", rank), ("lower_bound", lower_bound)):
            if self.decay is None and value is not None:
                raise UsageError(
                    f"oscillation.{name}={value} is of a gate, but oscillation.gate=none: "
                    f"set oscillation.{name}=null, or gate=head or rows"
                )
        self.project = nn.Linear(input_dim, self.substeps * num_heads, bias=False)
        self.forget: ForgetGate | None = None
        if self.decay is not None:
            count = state_dim if gate == "rows" else 1
            channels = rank_of(rank, value_dim)
            self.forget = ForgetGate(input_dim, num_heads, count, channels, rate_range, step_range, lower_bound)
        self.inner_logit: nn.Parameter | None = None
        if inner_decay:
            self.inner_logit = mark(nn.Parameter(torch.ones(num_heads)), group="oscillation")

    def forward(self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None) -> tuple[Delta, Any]:
        logits = widen(self.project(x)).unflatten(-1, (self.substeps, self.num_heads)).flatten(1, 2)
        beta = (self.largest_beta * torch.sigmoid(logits))[..., None, None]
        key = whole(expand, self.state_dim)
        log_decay, right = decayed(self.forget, x, key, self.substeps)
        if self.inner_logit is not None:
            right = right * widen(self.inner_logit).sigmoid()[:, None, None]
        return Delta(log_decay=log_decay, left=key, right=right, beta=beta, gain=beta), past


class EraseAndWrite(Oscillation):
    """The delta rule with a gate on every row of what is erased and on every column of what is written.

        memory_t = (I - key_t (erase_t * key_t)^T) diag(decay_t) memory_{t-1} + key_t (write_t * input_t)^T

    The key is the expand, which should be of length one (`expand=key`).

    Args:
        largest_erase: erase_t = largest_erase * sigmoid(W x_t), one per row; at most 2.
        rank, rate_range, step_range, lower_bound: those of `ForgetGate`, with one decay per row; rank also value_dim.
    Returns:
        Delta of beta one, with decays [B L H N 1] and gain write_t = sigmoid(W x_t) [B L H 1 P].
    Raises:
        UsageError: largest_erase is not in (0, 2].
    Source: Gated DeltaNet-2 as in flash-linear-attention 0.6 (layers/gdn2).
    """

    kind = "low_rank"
    decay = "LHN"
    gain = "LHP"
    one: Tensor

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        largest_erase: float,
        rank: int | Literal["value_dim"] | None,
        rate_range: list[float],
        step_range: list[float] | None,
        lower_bound: float | None,
    ) -> None:
        super().__init__()
        if not 0 < largest_erase <= 2:
            raise UsageError(f"oscillation.largest_erase={largest_erase} must be in (0, 2]: use 1 or 2")
        self.largest_erase, self.sizes = largest_erase, (num_heads, state_dim, value_dim)
        self.erase = nn.Linear(input_dim, num_heads * state_dim, bias=False)
        self.write = nn.Linear(input_dim, num_heads * value_dim, bias=False)
        channels = rank_of(rank, value_dim)
        self.forget = ForgetGate(input_dim, num_heads, state_dim, channels, rate_range, step_range, lower_bound)
        self.register_buffer("one", torch.ones(1, 1, 1, 1, 1), persistent=False)

    def forward(self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None) -> tuple[Delta, Any]:
        num_heads, state_dim, value_dim = self.sizes
        key = whole(expand, state_dim)
        log_decay, right = decayed(self.forget, x, key, 1)
        erase = self.largest_erase * torch.sigmoid(widen(self.erase(x))).unflatten(-1, (num_heads, state_dim, 1))
        write = torch.sigmoid(widen(self.write(x))).unflatten(-1, (num_heads, 1, value_dim))
        one = self.one.to(right.dtype)
        return Delta(log_decay=log_decay, left=key, right=right * erase, beta=one, gain=write), past


def rank_of(rank: int | Literal["value_dim"] | None, value_dim: int) -> int | None:
    """The rank that the setting asks for: a number, as many as a head has values, or None for full."""
    if rank is None or rank == "value_dim":
        return None if rank is None else value_dim
    return int(positive("oscillation.rank", rank))


def whole(expand: Writes, state_dim: int) -> Writes:
    """The expand itself with all of its rows: the same tensor unless it is constant along them."""
    expand = widen(expand)
    return expand if expand.shape[3] == state_dim else expand.expand(-1, -1, -1, state_dim, -1)


def decayed(
    forget: ForgetGate | None, x: Stream, key: Writes, substeps: int
) -> tuple[Float[Tensor, "#B #S #H #N 1"], Writes]:
    """Log-decays of every step, which act before the first substep of a token, and the key after those decays.

    What is erased is found in the memory after its decay: right = decay key.
    """
    if forget is None:
        return key.new_zeros(1, 1, 1, 1, 1), key
    log_decay = forget(x)
    if substeps > 1:
        log_decay = F.pad(log_decay[:, :, None], (0, 0) * 3 + (0, substeps - 1)).flatten(1, 2)
    return log_decay, key * log_decay.exp()
