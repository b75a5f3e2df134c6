"""Oscillations with a forget gate and an input gate of its own: mLSTM and minLSTM."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark, own_start
from lcsm.shapes import Stream, Writes
from lcsm.stages.activation import soft_capped
from lcsm.stages.base import Oscillation
from lcsm.stages.settings import positive
from lcsm.structures import Context, Diagonal, widen


class ExponentialInputGate(Oscillation):
    """A sigmoid forget gate and an exponential input gate per head.

        decay_t = sigmoid(cap(f_t)),   weight of what is written exp(cap(i_t)),   cap(z) = soft_cap tanh(z / soft_cap)

    Args:
        soft_cap: bound of both gates' logits, > 0; null for none.
        forget_bias: biases of the forget gates, linearly spaced over the heads between these two.
        input_bias: bias of the input gates.
        log_scale_start: where the running maximum of the weights starts.
    Returns:
        Diagonal with log-decays and log_gain, [B L H 1 1].
    Source: mLSTM (2405.04517); the soft cap is that of xLSTM 7B. The weights of both gates start at zero.
    """

    decay = "LH"

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        soft_cap: float | None,
        forget_bias: list[float],
        input_bias: float,
        log_scale_start: float,
    ) -> None:
        super().__init__()
        if len(forget_bias) != 2:
            raise UsageError(f"oscillation.forget_bias={forget_bias} must be the first and the last: use [3.0, 6.0]")
        self.log_scale_start = log_scale_start
        self.soft_cap = None if soft_cap is None else positive("oscillation.soft_cap", soft_cap)
        self.project_forget = own_start(nn.Linear(input_dim, num_heads))
        self.project_input = own_start(nn.Linear(input_dim, num_heads))
        with torch.no_grad():
            self.project_forget.weight.zero_()
            self.project_input.weight.zero_()
            self.project_forget.bias.copy_(torch.linspace(forget_bias[0], forget_bias[1], num_heads))
            self.project_input.bias.fill_(input_bias)
        for projection in (self.project_forget, self.project_input):
            mark(projection.bias)

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        forget, weight = (
            soft_capped(widen(projection(x)), self.soft_cap)[..., None, None]
            for projection in (self.project_forget, self.project_input)
        )
        return Diagonal(log_decay=F.logsigmoid(forget), log_gain=weight), past


class NormalisedGates(Oscillation):
    """A forget gate and an input gate per head that sum to one.

        decay_t = f / (f + i + epsilon),   gain_t = i / (f + i + epsilon),   f, i = sigmoid(W x_t)

    Args:
        epsilon: > 0; null for none.
    Returns:
        Diagonal with log-decays and gain, [B L H 1 1].
    Source: minLSTM (2410.01201), where every channel is a head, without epsilon.
    """

    decay = "LH"
    gain = "LH"

    def __init__(self, input_dim: int, num_heads: int, epsilon: float | None) -> None:
        super().__init__()
        self.log_epsilon = None if epsilon is None else math.log(positive("oscillation.epsilon", epsilon))
        self.project_forget = nn.Linear(input_dim, num_heads, bias=False)
        self.project_input = nn.Linear(input_dim, num_heads, bias=False)

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        forget, write = (
            F.logsigmoid(widen(projection(x)))[..., None, None]
            for projection in (self.project_forget, self.project_input)
        )
        total = torch.logaddexp(forget, write)
        if self.log_epsilon is not None:
            total = torch.logaddexp(total, total.new_tensor(self.log_epsilon))
        return Diagonal(log_decay=forget - total, gain=(write - total).exp()), past
