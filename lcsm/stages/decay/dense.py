"""Oscillations that mix the rows of the memory with a full matrix that never grows it."""

import torch
from torch import nn

from lcsm.parameters import cached_unless_grad, mark
from lcsm.shapes import Stream, Tensor, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.decay.axes import log_sigmoid_decay
from lcsm.stages.settings import positive
from lcsm.structures import Context, Dense, widen


class OrthogonalDecay(Oscillation):
    """Decay every row, then mix the rows with a learned orthogonal matrix.

        matrix_t = exp(S - S^T) diag(sigmoid(z_t)^(1 / tau))

    The first factor keeps lengths and the second shortens them: the spectral norm is at most 1 whatever the parameters.
    Every matrix with orthogonal columns shorter than 1 and a positive determinant is of this form.

    Args:
        data_driven: whether the decays are projected from what the stage sees, z_t = W x_t, or learned, z_t = a.
        tau: temperature; larger forgets more slowly. Dimensionless, > 0.
        std: standard deviation of the normal initialisation of S, and of a.
    Returns:
        Dense with matrices [1 1 H N N], or [B L H N N] if data-driven.
    Source: the matrix product of EOS (its second kind of oscillation), which the release leaves out.
    """

    kind = "dense"

    def __init__(
        self, input_dim: int, num_heads: int, state_dim: int, data_driven: bool, tau: float, std: float
    ) -> None:
        super().__init__()
        self.tau = positive("oscillation.tau", tau)
        self.sizes = (num_heads, state_dim)
        self.decay = "LHN" if data_driven else "HN"
        self.generator = mark(nn.Parameter(std * torch.randn(num_heads, state_dim, state_dim)), group="oscillation")
        self.projection: nn.Linear | None = None
        if data_driven:
            self.projection = nn.Linear(input_dim, num_heads * state_dim, bias=False)
        else:
            self.logits = mark(nn.Parameter(std * torch.randn(num_heads, state_dim)), group="oscillation")

    def forward(
        self, x: Stream, expand: Writes, past: Tensor | None = None, context: Context | None = None
    ) -> tuple[Dense, Tensor | None]:
        # the exponential costs more than a step of a stream
        mixing = cached_unless_grad(past)
        mixing = self.mixing(x.device.type) if mixing is None else mixing
        logits = self.logits[None, None] if self.projection is None else self.projection(x).unflatten(-1, self.sizes)
        decay = log_sigmoid_decay(logits, self.tau).exp()
        return Dense(matrix=mixing * decay[..., None, :]), None if torch.is_grad_enabled() else mixing

    def mixing(self, device: str) -> Tensor:
        """The orthogonal matrices, [H N N]."""
        # a half-precision matrix exponential is not orthogonal
        with torch.autocast(device, enabled=False):
            generator = widen(self.generator)
            return torch.matrix_exp(generator - generator.transpose(-1, -2))
