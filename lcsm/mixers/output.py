"""The output of a mixer: normaliser, skip, gate, activation, projection."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.ops.recurrence import Read
from lcsm.shapes import Float, Stream, Tensor
from lcsm.stages.activation import ELEMENTWISE
from lcsm.stages.base import Normaliser
from lcsm.stages.low_rank import linear
from lcsm.stages.settings import choose

FORMS = ("linear", "none", "glu", "full_glu", "half_glu1", "half_glu2")
# The same after a linear map over all heads.
MIXED = {"mixed": "none", **{f"mixed_{form}": form for form in ("full_glu", "half_glu1", "half_glu2")}}


class Output(nn.Module):
    """The map from the outputs of the memory to the width of the model.

    With outputs = normaliser(read) + skip, z = activation(outputs),
    g = gate_activation(gate x) * z where there is a gate, and sigmoid s:

        none       z
        linear     W z
        glu        (W z) * s(V z)
        full_glu   (W z) * s(V z), both with bias        (S5)
        half_glu1  z * s(V z)                            (S5)
        half_glu2  outputs * s(V z)                      (S5)
        mixed      none, after outputs = M outputs with bias; mixed_full_glu, mixed_half_glu1, mixed_half_glu2 likewise
                   (LDNN, which so joins its heads)

    Args:
        form: one of the rows above.
        activation: applied to the outputs before the projection.
        gate: activation of the multiplicative gate, or "none".
        gate_rank: rank of the gate's projection; None for a full one, 0 for none: the gate is what it sees.
        norm: whether the normaliser comes before the activation and the gate, or after (Mamba-2).
        bias: whether the gate and the projections of linear and glu have one.
        normaliser: keeps what is read in range.
        num_heads: heads H that are read.
        width: width of the merged heads, H P.
        gate_dim: width of what the gate sees.
        d_model: width D of the model.
    Raises:
        UsageError: an option is unknown, a rank has no gate, the form keeps the width and width is not d_model, or
            there is nothing before the normaliser.
    Source: half and full GLU as in S5 (arXiv 2208.04933); the mixed forms are those of LDNN.
    """

    def __init__(
        self,
        form: str,
        activation: str,
        gate: str,
        gate_rank: int | None,
        norm: Literal["before", "after"],
        bias: bool,
        normaliser: Normaliser,
        num_heads: int,
        width: int,
        gate_dim: int,
        d_model: int,
    ) -> None:
        super().__init__()
        self.normaliser, self.num_heads = normaliser, num_heads
        self.norm_last = choose("mixer.output.norm", norm, {"before": False, "after": True})
        if self.norm_last and normaliser.denominator:
            raise UsageError("mixer.output.norm=after would gate before the denominator: set mixer.output.norm=before")
        self.mix = nn.Linear(width, width) if form in MIXED else None
        # set by a block with inner dropout
        self.dropout: nn.Module = nn.Identity()
        self.form = form = choose("mixer.output.form", form, {**{name: name for name in FORMS}, **MIXED})
        self.activation = choose("mixer.output.activation", activation, ELEMENTWISE)
        self.gate_activation = choose("mixer.output.gate", gate, {"none": None, **ELEMENTWISE})
        if gate == "none" and gate_rank is not None:
            raise UsageError(
                f"mixer.output.gate_rank={gate_rank} is of a gate, but there is none: set mixer.output.gate_rank=null"
            )
        self.gate = None if gate == "none" else make_gate(gate_dim, width, gate_rank, bias)
        if form in ("none", "half_glu1", "half_glu2") and width != d_model:
            choose(
                f"model.d_model={d_model} with heads of {width} channels in all and mixer.output.form",
                form,
                {"linear": None, "glu": None, "full_glu": None},
            )
        bias = bias or form not in ("linear", "glu")
        if self.norm_last and self.gate is None and self.mix is None and activation == "identity":
            raise UsageError(
                "mixer.output.norm=after has no gate or activation to come after: set mixer.output.norm=before"
            )
        self.project = nn.Linear(width, d_model, bias=bias) if form in ("linear", "glu", "full_glu") else None
        self.select = nn.Linear(width, d_model, bias=bias) if form not in ("linear", "none") else None

    def forward(self, read: Read, skipped: Float[Tensor, "B L W"] | None, gate: Float[Tensor, "B L G"]) -> Stream:
        """Map what was read, and what skipped the memory, to [B L D]; the gate sees [B L G]."""
        outputs = self.merged(read, gate.shape[:2])
        outputs = (outputs if skipped is None else outputs + skipped).to(gate.dtype)
        if self.mix is not None:
            outputs = self.mix(self.dropout(outputs))
        active = self.activation(outputs)
        if self.gate is not None and self.gate_activation is not None:
            active = active * self.gate_activation(self.gate(gate))
        if self.norm_last:
            active = self.normaliser(active.unflatten(-1, (self.num_heads, -1)), None).flatten(2).to(gate.dtype)
        active = self.dropout(active)
        mixed = active if self.project is None else self.project(active)
        if self.select is None:
            return mixed
        return (outputs if self.form == "half_glu2" else mixed) * torch.sigmoid(self.select(active))

    def merged(self, read: Read, size: torch.Size) -> Float[Tensor, "B L W"]:
        """The outputs of the memory with heads side by side, normalised unless the norm comes after the gate."""
        outputs = read.outputs if self.norm_last else self.normaliser(read.outputs, read.log_scale)
        outputs = outputs if read.late is None else outputs + read.late
        return outputs.expand(*size, -1, -1).flatten(2)


def make_gate(inputs: int, width: int, rank: int | None, bias: bool) -> nn.Module:
    """The projection of the gate; with rank 0 what it sees must be as wide as the outputs."""
    if rank != 0:
        return linear(inputs, width, rank, bias)
    if inputs != width:
        raise UsageError(
            f"mixer.output.gate_rank=0 takes the gate as it is, but it has {inputs} channels and the outputs {width}: "
            "use source=hyena, or mixer.output.gate_rank=null"
        )
    return nn.Identity()
