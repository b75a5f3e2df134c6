"""Data-driven decays, with everything that gated linear attention and gated linear recurrences add to them."""

from __future__ import annotations

from math import prod
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import RealFactor, Stream, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.decay.axes import sizes
from lcsm.stages.decay.rotation import angles
from lcsm.stages.gated.lower_bounds import LowerBounds, bounded_log_sigmoid
from lcsm.stages.low_rank import linear
from lcsm.stages.settings import choose, positive
from lcsm.structures import Context, Diagonal, widen

# The declaration of a gate, and the vectors that it is made of.
GATES = {
    "scalar": ("LH", ("scalar",)),
    "rows": ("LHN", ("rows",)),
    "columns": ("LHP", ("columns",)),
    "outer": ("LHN+LHP", ("rows", "columns")),
}


class Gate(Oscillation):
    """Decay the memory by a gate: (bound + (1 - bound) sigmoid(W x_t + b))^(1 / tau).

    Args:
        axes: scalar (one decay per head), rows (one per row of the memory), columns (one per column), or outer (the
            product of a decay per row and a decay per column).
        tau: temperature; larger forgets more slowly. Dimensionless, > 0.
        rank: rank of W; null for a full matrix.
        bias: whether there is a b.
        lower_bound: a number in [0, 1); "layer" for layer / num_layers; "learned" for bounds that all layers share.
        complement: whether what is written is scaled by 1 - decay.
        phase: none; learned (an angle per head or row, the same at every step); data (angles W' x_t).
        phase_base: learned angles start at base^(-2 j / count), j = 0 .. count - 1, > 0; None where none are learned.
    Returns:
        Diagonal with log-decays [B L H 1 1], [B L H N 1] or [B L H 1 P], and phases and gain along the same axes; outer
        has [B L H N 1] and columns [B L H 1 P].
    Raises:
        UsageError: the lower bound is neither a number in [0, 1) nor a name, or the axes do not take other settings.
    Source: EOS, o_type = 3 (rows), 2 (columns) and 1 (outer, as DUR), tau alone. Without tau the release multiplies
        sigmoid(W x) with fixed slopes; that form is left out. It also rounds decays to the precision of the input,
        where bfloat16 turns 0.9985 into 1; here log-decays are float32.
        GLA (2312.06635) rows, tau 16, rank 16, bias; HGRN (2311.04823) scalar, complement, lower bound, with a
        channel per head; HGRN2 (2404.07904), MetaLA (2411.10741) rows, complement; minGRU (2410.01201) scalar,
        complement; GateLoop (2311.01927) rows, data phase.
    """

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        layer: int,
        num_layers: int,
        common: dict[tuple[Any, ...], nn.Module],
        axes: Literal["scalar", "rows", "columns", "outer"],
        tau: float,
        rank: int | None,
        bias: bool,
        lower_bound: float | Literal["layer", "learned"],
        complement: bool,
        phase: Literal["none", "learned", "data"],
        phase_base: float | None,
    ) -> None:
        super().__init__()
        self.tau = positive("oscillation.tau", tau)
        self.decay, vectors = choose("oscillation.axes", axes, GATES)
        if axes == "outer" and (complement or lower_bound != 0):
            raise UsageError(
                "oscillation.axes=outer is the product of two gates:\n"
                "set oscillation.complement=false oscillation.lower_bound=0.0, or use axes=rows"
            )
        if axes in ("columns", "outer") and phase != "none":
            raise UsageError(f"oscillation.phase={phase} turns rows: use axes=rows or scalar, not {axes}")
        if (phase == "learned") != (phase_base is not None):
            raise UsageError(
                f"oscillation.phase_base={phase_base} is the start of learned angles, but oscillation.phase={phase}: "
                f"set oscillation.phase_base={'10000' if phase_base is None else 'null'}"
            )
        self.gain = self.decay if complement else None
        self.shapes = [sizes(vector, num_heads, state_dim, value_dim) for vector in vectors]
        self.projections = nn.ModuleList(linear(input_dim, prod(shape), rank, bias) for shape in self.shapes)
        shape = self.shapes[0]
        self.layer, self.bounds = layer, None
        if lower_bound == "learned":
            key = ("lower bounds", num_layers, *shape)
            self.bounds = common.setdefault(key, LowerBounds(num_layers, shape))
        self.fixed_bound = 0.0 if lower_bound == "learned" else fixed_bound(lower_bound, layer, num_layers)
        turns = {"none": None, "learned": self.decay.removeprefix("L"), "data": self.decay}
        self.phase = choose("oscillation.phase", phase, turns)
        self.angles, self.turn = None, None
        if phase_base is not None:
            start = angles(*shape[:2], positive("oscillation.phase_base", phase_base))
            self.angles = mark(nn.Parameter(start), group="oscillation")
        elif phase == "data":
            self.turn = nn.Linear(input_dim, prod(shape), bias=False)

    def log_decay(self, logits: RealFactor) -> RealFactor:
        """Log-decays of gate logits [B L H N 1]."""
        if self.bounds is not None:
            return bounded_log_sigmoid(logits, widen(self.bounds(self.layer))) / self.tau
        if self.fixed_bound == 0:
            return F.logsigmoid(logits) / self.tau
        return bounded_log_sigmoid(logits, logits.new_tensor(self.fixed_bound)) / self.tau

    def angle(self, x: Stream) -> RealFactor | None:
        """Angles in radians per step, None where the memory does not turn."""
        if self.angles is not None:
            return widen(self.angles)[None, None, ..., None]
        if self.turn is None:
            return None
        # angles add up over the sequence, and with them the rounding of a half-precision projection
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(widen(x), widen(self.turn.weight)).unflatten(-1, self.shapes[0])

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        decays = [
            self.log_decay(widen(projection(x)).unflatten(-1, shape))
            for projection, shape in zip(self.projections, self.shapes, strict=True)
        ]
        return Diagonal(
            log_decay=decays[0],
            columns=decays[1] if len(decays) > 1 else None,
            phase=self.angle(x),
            gain=None if self.gain is None else -torch.expm1(decays[0]),
        ), past


def fixed_bound(lower_bound: float | str, layer: int, num_layers: int) -> float:
    """The bound of a layer whose bounds are not learned."""
    if lower_bound == "layer":
        return layer / num_layers
    if not isinstance(lower_bound, int | float) or not 0 <= lower_bound < 1:
        raise UsageError(
            f"oscillation.lower_bound={lower_bound!r} must be a number in [0, 1), layer or learned: "
            "use learned, as HGRN"
        )
    return float(lower_bound)
