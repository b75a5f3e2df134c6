"""Fixed decays by published formulas, with rotary angles or without."""

from collections.abc import Callable
from math import pi, prod
from typing import Any, Literal

import torch

from lcsm.shapes import Float, Stream, Tensor, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.decay.axes import AXES, sizes
from lcsm.stages.settings import choose, positive
from lcsm.structures import Context, Diagonal, widen

# number of systems, layer, number of layers -> their log-decays, in nats per step
Formula = Callable[[int, int, int], Float[Tensor, " count"]]


def slopes(count: int) -> Float[Tensor, " count"]:
    """Log-decays of `count` systems, negative, in nats per step.

        -2^(-8 j / count), j = 1 .. count     where count is a power of two

    Otherwise those of the power of two below, then every second of the power of two above. The slowest is always
    -2^-8 (one e-fold in 256 steps) up to a power of two.

    Source: ALiBi (2108.12409), its code.
    """
    power = 1 << (count.bit_length() - 1)
    exact = -(2.0 ** (-8 * torch.arange(1, power + 1) / power))
    if power == count:
        return exact
    return torch.cat([exact, slopes(2 * power)[::2][: count - power]])


def alibi(count: int, layer: int, num_layers: int) -> Float[Tensor, " count"]:
    """The slopes, the same in every layer."""
    return slopes(count)


def alibi_layers(count: int, layer: int, num_layers: int) -> Float[Tensor, " count"]:
    """The slopes times 1 - l / num_layers: upper layers remember longer."""
    return (1 - layer / num_layers) * slopes(count)


def none(count: int, layer: int, num_layers: int) -> Float[Tensor, " count"]:
    """No decay."""
    return torch.zeros(count)


def retnet(count: int, layer: int, num_layers: int) -> Float[Tensor, " count"]:
    """log(1 - 2^(-5 - h)), h = 0 .. count - 1."""
    return torch.log1p(-(2.0 ** (-5.0 - torch.arange(count))))


def tnl(count: int, layer: int, num_layers: int) -> Float[Tensor, " count"]:
    """-2^(-8 (h + 1) / count) (1 - l / (num_layers - 1)): the last layer hardly decays."""
    small = 1e-5
    scale = 1 - layer / (num_layers - 1 + small) + small
    return -scale * 2.0 ** (-8.0 * (torch.arange(count) + 1) / count)


def lightning(count: int, layer: int, num_layers: int) -> Float[Tensor, " count"]:
    """-(8 h / count) (1 - l / num_layers), h = 0 .. count - 1: the first head does not decay."""
    return -(8 / count) * (1 - layer / num_layers) * torch.arange(count)


FORMULAS: dict[str, Formula] = {
    "none": none,
    "alibi": alibi,
    "alibi_layers": alibi_layers,
    "retnet": retnet,
    "tnl": tnl,
    "lightning": lightning,
}


class FixedDecay(Oscillation):
    """Decay every entry at a fixed rate; rows may turn by rotary angles, the same in every head.

        memory_t = decay exp(-i angle_n) memory_{t-1} + ...,   angle_n = base^(-n / N) radians, n = 0 .. N - 1

    The sign is that of queries and keys turned forwards by their positions: an older key lags behind. The formula
    spreads over all entries that have a decay of their own: the heads (`scalar`), all rows of all heads, all columns,
    or all entries. A single head with one scalar of `alibi` decays by exp(-2^-8) = 0.9961 per step.

    Args:
        axes: scalar, rows, columns or full.
        formula: none; alibi; alibi_layers (slower in upper layers, as in the paper of TransNormerLLM); retnet; tnl
            (shipped with TransNormerLLM and MiniMax); lightning (in flash-linear-attention).
        rotary_base: base of the angles, > 0; null for a memory that does not turn.
    Returns:
        Diagonal with log-decays [1 1 H 1 1], [1 1 H N 1], [1 1 H 1 P] or [1 1 H N P], [1 1 1 1 1] for none, and phases
        [1 1 1 N 1].
    Source: RetNet (2307.08621); TransNormerLLM (2307.14995), Lightning Attention (2401.04658), for which two formulas
        are in use; rotary position embedding (2104.09864). EOS, o_type = 4 (rows), 5 (columns) and 0 (full) with fixed
        decays, alibi: the release negates the slopes of type 0 twice, which makes them grow (NaN after 64 steps), and
        trains those of type 5; here both are fixed and decay.
    """

    log_decay: Tensor
    angles: Tensor | None

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        layer: int,
        num_layers: int,
        axes: Literal["scalar", "rows", "columns", "full"],
        formula: Literal["none", "alibi", "alibi_layers", "retnet", "tnl", "lightning"],
        rotary_base: float | None,
    ) -> None:
        super().__init__()
        rates = choose("oscillation.formula", formula, FORMULAS)
        shape = sizes(axes, num_heads, state_dim, value_dim)
        self.decay = AXES[axes]
        if formula == "none":
            self.decay, shape = None, (1, 1, 1)
        log_decay = rates(prod(shape), layer, num_layers).view(1, 1, *shape)
        self.register_buffer("log_decay", log_decay, persistent=False)
        angles = None
        if rotary_base is not None:
            self.phase = "N"
            base = positive("oscillation.rotary_base", rotary_base)
            angles = -(base ** (-torch.arange(state_dim) / state_dim)).view(1, 1, 1, -1, 1)
        self.register_buffer("angles", angles, persistent=False)

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
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
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        angle = widen(self.angle)
        return Diagonal(log_decay=torch.zeros_like(angle), phase=angle), past
