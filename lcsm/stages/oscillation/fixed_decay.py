"""Fixed decays per head by published formulas, with rotary angles or without."""

from collections.abc import Callable
from math import pi
from typing import Any, Literal

import torch

from lcsm.shapes import Factor, Float, Stream, Tensor
from lcsm.stages.base import Oscillation
from lcsm.stages.settings import choose, positive
from lcsm.structures import Context, Diagonal, widen

# number of heads, layer, number of layers -> log-decays of the heads, in nats per step
Formula = Callable[[int, int, int], Float[Tensor, " H"]]


def none(heads: int, layer: int, num_layers: int) -> Float[Tensor, " H"]:
    """No decay."""
    return torch.zeros(heads)


def retnet(heads: int, layer: int, num_layers: int) -> Float[Tensor, " H"]:
    """log(1 - 2^(-5 - h)), h = 0 .. H - 1."""
    return torch.log1p(-(2.0 ** (-5.0 - torch.arange(heads))))


def tnl(heads: int, layer: int, num_layers: int) -> Float[Tensor, " H"]:
    """-2^(-8 (h + 1) / H) (1 - l / (num_layers - 1)): the last layer hardly decays."""
    small = 1e-5
    scale = 1 - layer / (num_layers - 1 + small) + small
    return -scale * 2.0 ** (-8.0 * (torch.arange(heads) + 1) / heads)


def lightning(heads: int, layer: int, num_layers: int) -> Float[Tensor, " H"]:
    """-(8 h / H) (1 - l / num_layers), h = 0 .. H - 1: the first head does not decay."""
    return -(8 / heads) * (1 - layer / num_layers) * torch.arange(heads)


FORMULAS: dict[str, Formula] = {"none": none, "retnet": retnet, "tnl": tnl, "lightning": lightning}


class FixedDecay(Oscillation):
    """Decay every head at a fixed rate; rows may turn by rotary angles, the same in every head.

        memory_t = decay_h exp(-i angle_n) memory_{t-1} + ...,   angle_n = base^(-n / N) radians, n = 0 .. N - 1

    The sign is that of queries and keys turned forwards by their positions: an older key lags behind.

    Args:
        formula: none; retnet; tnl (shipped with TransNormerLLM and MiniMax); lightning (in flash-linear-attention).
        rotary_base: base of the angles, > 0; null for a memory that does not turn.
    Returns:
        Diagonal with log-decays [1 1 H 1 1], [1 1 1 1 1] for none, and phases [1 1 1 N 1].
    Source: RetNet (2307.08621); TransNormerLLM (2307.14995), Lightning Attention (2401.04658), for which two formulas
        are in use; rotary position embedding (2104.09864).
    """

    log_decay: Tensor
    angles: Tensor | None

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        layer: int,
        num_layers: int,
        formula: Literal["none", "retnet", "tnl", "lightning"],
        rotary_base: float | None,
    ) -> None:
        super().__init__()
        rates = choose("oscillation.formula", formula, FORMULAS)(num_heads, layer, num_layers)
        self.decay = None if formula == "none" else "H"
        rates = rates[:1] if self.decay is None else rates
        self.register_buffer("log_decay", rates.view(1, 1, -1, 1, 1), persistent=False)
        angles = None
        if rotary_base is not None:
            self.phase = "N"
            base = positive("oscillation.rotary_base", rotary_base)
            angles = -(base ** (-torch.arange(state_dim) / state_dim)).view(1, 1, 1, -1, 1)
        self.register_buffer("angles", angles, persistent=False)

    def forward(
        self, x: Stream, expand: Factor, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        phase = None if self.angles is None else widen(self.angles)
        return Diagonal(log_decay=widen(self.log_decay), phase=phase), past


class UniformRotation(Oscillation):
    """Turn the whole memory by one fixed angle per step, so that a lag of `length` weighs cos(pi / 2) = 0.

    Args:
        length: lag at which the weight reaches zero, in tokens; longer texts meet negative weights.
    Returns:
        Diagonal with log-decay zero and one phase, [1 1 1 1 1].
    Source: cosFormer (2202.08791), whose length is that of the longest text.
    """

    phase = ""
    angle: Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        angle = pi / (2 * positive("oscillation.length", length))
        self.register_buffer("angle", torch.full((1, 1, 1, 1, 1), angle), persistent=False)

    def forward(
        self, x: Stream, expand: Factor, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        angle = widen(self.angle)
        return Diagonal(log_decay=torch.zeros_like(angle), phase=angle), past
