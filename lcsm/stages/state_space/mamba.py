"""The oscillation of selective state space models: a data-driven step size times learned rates."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.parameters import mark, own_start
from lcsm.shapes import Float, Stream, Tensor, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.state_space.discretisation import log_uniform_steps
from lcsm.stages.state_space.spectrum import inverse_softplus
from lcsm.structures import Context, Diagonal, widen


def step_bias(count: int, step_range: list[float]) -> Float[Tensor, " count"]:
    """Biases for which softplus gives step sizes that are log-uniform in `step_range`, [count].

    Raises:
        UsageError: `step_range` is not two positive numbers in order.
    """
    return inverse_softplus(log_uniform_steps((count,), step_range).exp()).to(torch.get_default_device())


class DataDrivenStep(Oscillation):
    """Decay entry (n, p) by exp(step_t[p] rate[n, p]); the step size also scales what is written (Euler).

        step_t = softplus(U_2 U_1 x_t + bias),   rate = -exp(a),   a[n, p] = log(n + 1) at first

    Args:
        rank: number of rows of U_1, > 0; null for d_model / 16, rounded up.
        step_range: smallest and largest step size at first, log-uniform between; null leaves the bias out.
    Returns:
        Diagonal with rates [1 1 H N P], step [B L H 1 P] and gain [B L H 1 P].
    Source: Mamba (2312.00752); EOS, c_type = 0, which has no bias, so that steps start near 0.7 and most rows of the
        memory forget at once.
    """

    decay = "HNP*LHP"
    gain = "LHP"
    irregular = True

    def __init__(
        self,
        input_dim: int,
        d_model: int,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        rank: int | None,
        step_range: list[float] | None,
    ) -> None:
        super().__init__()
        self.sizes = (num_heads, 1, value_dim)
        rank = math.ceil(d_model / 16) if rank is None else rank
        rates = torch.arange(1.0, state_dim + 1).log()[:, None].repeat(num_heads, 1, value_dim)
        self.log_rate = mark(nn.Parameter(rates), group="oscillation")
        self.reduce = nn.Linear(input_dim, rank, bias=False)
        self.expand_step = own_start(nn.Linear(rank, num_heads * value_dim, bias=False))
        self.bias: nn.Parameter | None = None
        if step_range is not None:
            self.bias = mark(nn.Parameter(step_bias(num_heads * value_dim, step_range)), group="oscillation")

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        logits = widen(self.expand_step(self.reduce(x)))
        step = F.softplus(logits if self.bias is None else logits + self.bias).unflatten(-1, self.sizes)
        if context is not None and context.dt is not None:
            step = step * context.dt[:, :, None, None, None]
        return Diagonal(log_decay=-widen(self.log_rate).exp()[None, None], step=step, gain=step), past
