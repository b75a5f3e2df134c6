"""The read-out of gated slot attention: a softmax over slots, whose keys are a memory of their own."""

from __future__ import annotations

from torch import nn

from lcsm.errors import UsageError
from lcsm.ops.cost import recurrent_flops
from lcsm.ops.recurrence import Recurrence
from lcsm.ops.spec import RecurrenceSpec
from lcsm.shapes import Factor, Float, Stream, Tensor, Writes
from lcsm.stages.activation import ACTIVATIONS
from lcsm.stages.base import Shrink
from lcsm.stages.segments import resets_of
from lcsm.stages.settings import choose
from lcsm.structures import Context, Diagonal, Structure, widen


class SlotShrink(Shrink):
    """The slots, rows of the memory, that a query reads: a softmax over the keys that were written into the slots.

        keys_t = keys_{t-1} diag(decay_t) + k_t gain_t^T        [K N], decay and gain are those of the oscillation
        shrink_t = softmax(keys_t^T q_t)

    Args:
        key_dim: K, size of keys and queries of a head, > 0.
        activation: of keys and queries, one of `activation.ACTIVATIONS`.
        scaled: multiply queries by K^-0.5.
    Returns:
        The weights of the slots, [B L H N 1].
    Raises:
        UsageError: the oscillation is not real and diagonal with a gain per row.
    Source: GSA (2409.07146): two passes with the same gates, the softmax between them.
    """

    varies = "LHN"
    stateful = True

    def __init__(
        self, input_dim: int, num_heads: int, state_dim: int, key_dim: int, activation: str, scaled: bool
    ) -> None:
        super().__init__()
        self.sizes = (num_heads, key_dim, 1)
        self.scale = key_dim**-0.5 if scaled else 1.0
        self.activation = choose("shrink.activation", activation, ACTIVATIONS)
        self.project_key = nn.Linear(input_dim, num_heads * key_dim, bias=False)
        self.project_query = nn.Linear(input_dim, num_heads * key_dim, bias=False)
        self.recurrence = Recurrence(
            RecurrenceSpec(
                kind="diagonal",
                decay="LHP",
                expand="LHN",
                shrink="LHN",
                num_heads=num_heads,
                state_dim=key_dim,
                value_dim=state_dim,
            )
        )

    def forward(
        self,
        x: Stream,
        expand: Writes | None = None,
        structure: Structure | None = None,
        past: Float[Tensor, "B H K N"] | None = None,
        context: Context | None = None,
    ) -> tuple[Factor, Float[Tensor, "B H K N"]]:
        slots = self.recurrence.spec.value_dim
        gain = structure.gain if isinstance(structure, Diagonal) and structure.phase is None else None
        if not isinstance(structure, Diagonal) or gain is None or gain.shape[3:] != (slots, 1):
            raise UsageError(
                "shrink=gsa shares the gates of a real oscillation with a gain per row of the memory:\n"
                "use oscillation=gsa"
            )
        key, query = (
            widen(self.activation(projection(x).unflatten(-1, self.sizes)))
            for projection in (self.project_key, self.project_query)
        )
        turned = Diagonal(log_decay=structure.unfloored(0, x.shape[1]).transpose(3, 4))
        written = self.recurrence.write(turned, gain[..., 0].expand(*x.shape[:2], -1, -1), key)
        logits, memory = self.recurrence.run(written, query * self.scale, past, True, resets_of(context))
        return logits.softmax(-1)[..., None], memory

    def memory_flops(self) -> int:
        return recurrent_flops(self.recurrence.spec)

    def state_size(self) -> int:
        spec = self.recurrence.spec
        return spec.num_heads * spec.state_dim * spec.value_dim
