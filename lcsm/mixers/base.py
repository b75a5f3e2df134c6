"""The contract between a token mixer and the model around it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from lcsm.errors import UsageError
from lcsm.ops.cost import Cost
from lcsm.ops.dispatch import AlgorithmChoice
from lcsm.shapes import Float, Stream, Tensor
from lcsm.structures import Context


class Mixer(nn.Module, ABC):
    """Mixes tokens: forward(x, state, context) -> outputs, state.

    No state in, none out (training); `initial_state()` starts a stream. Splitting a sequence anywhere and carrying the
    state changes nothing, values and gradients. The state is opaque to the model.

    Attributes:
        structure: what the memory looks like, as `lcsm show` prints it: "diagonal LHN", "softmax".
        causal_setting: of a mixer that sees later tokens, the setting that would hide them, "causal=true"; else None.
    """

    structure: str
    causal_setting: str | None = None

    @property
    def streams(self) -> bool:
        """Whether the memory can be carried from token to token."""
        return self.causal_setting is None and type(self).initial_state is not Mixer.initial_state

    @abstractmethod
    def forward(self, x: Stream, state: Any = None, context: Context | None = None) -> tuple[Stream, Any]:
        """Mix the tokens of x, [B L D] -> [B L D]."""

    def share_dropout(self, dropout: nn.Module) -> None:
        """Let a dropout act on what the last projection or gate reads."""
        raise UsageError(
            f"block.inner_dropout=true has no place in {type(self).__name__}: set block.inner_dropout=false"
        )

    def step(
        self, x: Float[Tensor, "B D"], state: Any, context: Context | None = None
    ) -> tuple[Float[Tensor, "B D"], Any]:
        """One token: `forward` at L = 1."""
        outputs, state = self(x[:, None], state, context)
        return outputs[:, 0], state

    def initial_state(self) -> Any:
        """The state before the first token of a stream."""
        raise TypeError(f"{type(self).__name__} must define initial_state()")

    @abstractmethod
    def state_size(self, length: int) -> int:
        """Real numbers that one sequence keeps after `length` tokens."""

    @abstractmethod
    def recurrence_flops(self, length: int) -> int:
        """Multiplications and additions per token of the memory itself, at position `length`, projections left out."""

    @abstractmethod
    def choice(self, device: str) -> AlgorithmChoice:
        """The algorithm that `forward` runs on a type of device, and why that one."""

    @abstractmethod
    def costs(self, length: int, device: str) -> dict[str, Cost]:
        """Costs of each algorithm that a type of device could run for `length` tokens, by name, best first."""
