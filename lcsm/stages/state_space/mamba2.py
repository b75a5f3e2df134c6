"""The oscillation of Mamba-2: a data-driven step size and a learned rate for every head."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import Stream, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.state_space.mamba import step_bias
from lcsm.structures import Context, Diagonal, widen


class HeadStep(Oscillation):
    """Decay every head by exp(-step_t exp(a)); the step size also scales what is written.

        step_t = softplus(W x_t + bias)

    Args:
        rate_range: at first exp(a) is uniform between these.
        step_range: at first softplus(bias) is log-uniform between these.
        step_limit: steps are kept between these; null for no limits.
    Returns:
        Diagonal with rates [1 1 H 1 1], step and gain [B L H 1 1].
    Raises:
        UsageError: a range is not two numbers in order, or rates and steps are not positive.
    Source: Mamba-2 (2405.21060), rates in [1, 16], steps in [0.001, 0.1].
    """

    decay = "H*LH"
    gain = "LH"
    irregular = True

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        rate_range: list[float],
        step_range: list[float],
        step_limit: list[float] | None,
    ) -> None:
        super().__init__()
        for name, pair, least in (("rate_range", rate_range, 0), ("step_limit", step_limit or [0.0, 1.0], -1)):
            if len(pair) != 2 or not least < pair[0] <= pair[1]:
                raise UsageError(f"oscillation.{name}={pair} must be two numbers in order: use [1.0, 16.0] for rates")
        self.step_limit = step_limit
        self.log_rate = mark(nn.Parameter(torch.empty(num_heads).uniform_(*rate_range).log()), group="oscillation")
        self.bias = mark(nn.Parameter(step_bias(num_heads, step_range)), group="oscillation")
        self.projection = nn.Linear(input_dim, num_heads, bias=False)

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        step = F.softplus(widen(self.projection(x)) + self.bias)
        step = (step if self.step_limit is None else step.clamp(*self.step_limit))[..., None, None]
        if context is not None and context.dt is not None:
            step = step * context.dt[:, :, None, None, None]
        rate = -widen(self.log_rate).exp()[None, None, :, None, None]
        return Diagonal(log_decay=rate, step=step, gain=step), past
