"""LRU: modes in discrete time, started on a ring inside the unit circle."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import Stream, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.settings import positive
from lcsm.structures import Context, Diagonal, widen


class Lru(Oscillation):
    """Modes whose modulus is below one whatever the parameters.

        memory_t = exp(-exp(nu) + i exp(theta)) memory_{t-1} + exp(gamma) expand_t input_t

    At first the eigenvalues are uniform on the ring between two radii, with phases up to a largest one, and
    exp(gamma) = sqrt(1 - modulus^2) keeps the memory of white noise at variance one.

    Args:
        smallest_modulus, largest_modulus: radii of the ring, 0 <= smallest < largest <= 1.
        largest_phase: radians per step, > 0; pi / 10 and below help long sequences.
    Returns:
        Diagonal with log-decays, phases and gain [1 1 H N 1].
    Raises:
        UsageError: the radii are no ring inside the unit circle.
    Source: LRU (2303.06349), equations 5 to 7.
    """

    decay = "HN"
    phase = "HN"
    gain = "HN"

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        smallest_modulus: float,
        largest_modulus: float,
        largest_phase: float,
    ) -> None:
        super().__init__()
        if not 0 <= smallest_modulus < largest_modulus <= 1:
            raise UsageError(
                f"oscillation.smallest_modulus={smallest_modulus} and largest_modulus={largest_modulus} must be radii "
                "with 0 <= smallest < largest <= 1: use 0.0 and 1.0, or 0.9 and 0.999 for long memories"
            )
        shape = (num_heads, state_dim)
        inner, outer = smallest_modulus**2, largest_modulus**2
        # neither end of the interval: log 0 would start a mode that nothing can move
        square = inner + (outer - inner) * torch.empty(shape, device="cpu").uniform_(1e-6, 1 - 1e-6)
        phase = positive("oscillation.largest_phase", largest_phase) * torch.rand(shape, device="cpu").clamp_min(1e-6)
        self.nu = mark(nn.Parameter((-0.5 * square.log()).log()), group="oscillation")
        self.theta = mark(nn.Parameter(phase.log()), group="oscillation")
        self.gamma = mark(nn.Parameter(0.5 * torch.log1p(-square)), group="oscillation")

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        nu, theta, gamma = (widen(value)[None, None, ..., None].exp() for value in (self.nu, self.theta, self.gamma))
        return Diagonal(log_decay=-nu, phase=theta, gain=gamma), past
