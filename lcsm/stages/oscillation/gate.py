"""Data-driven decays."""

from typing import Any, Literal

from torch import nn

from lcsm.shapes import Factor, Stream
from lcsm.stages.base import Oscillation
from lcsm.stages.oscillation.decay import log_sigmoid_decay, sizes
from lcsm.stages.settings import choose, positive
from lcsm.structures import Context, Diagonal

# The declaration of a gate, and the vectors that it is made of.
GATES = {
    "scalar": ("LH", ("scalar",)),
    "rows": ("LHN", ("rows",)),
    "columns": ("LHP", ("columns",)),
    "outer": ("LHN+LHP", ("rows", "columns")),
}


class Gate(Oscillation):
    """Decay the memory at a rate that is projected from what the stage sees: sigmoid(W x_t)^(1 / tau).

    Args:
        axes: scalar (one decay per head), rows (one per row of the memory), columns (one per column), or outer (the
            product of a decay per row and a decay per column).
        tau: temperature; larger forgets more slowly. Dimensionless, > 0.
    Returns:
        Diagonal with log-decays [B L H 1 1], [B L H N 1] or [B L H 1 P]; outer has [B L H N 1] and columns [B L H 1 P].
    Source: EOS, o_type = 3 (rows, as GLA), 2 (columns) and 1 (outer, as DUR). Without tau the release multiplies
        sigmoid(W x) with fixed slopes; that form is left out. It also rounds decays to the precision of the input,
        where bfloat16 turns 0.9985 into 1; here log-decays are float32.
    """

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        axes: Literal["scalar", "rows", "columns", "outer"],
        tau: float,
    ) -> None:
        super().__init__()
        self.tau = positive("oscillation.tau", tau)
        self.decay, vectors = choose("oscillation.axes", axes, GATES)
        self.shapes = [sizes(vector, num_heads, state_dim, value_dim) for vector in vectors]
        self.projections = nn.ModuleList(nn.Linear(input_dim, h * n * p, bias=False) for h, n, p in self.shapes)

    def forward(
        self, x: Stream, expand: Factor, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        decays = [
            log_sigmoid_decay(projection(x).unflatten(-1, shape), self.tau)
            for projection, shape in zip(self.projections, self.shapes, strict=True)
        ]
        return Diagonal(log_decay=decays[0], columns=decays[1] if len(decays) > 1 else None), past
