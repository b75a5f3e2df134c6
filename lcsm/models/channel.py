"""Channel mixers: what follows the token mixer in a block."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from lcsm.shapes import Stream
from lcsm.stages.activation import ELEMENTWISE
from lcsm.stages.rwkv.token_shift import Last, previous, shares
from lcsm.stages.settings import choose
from lcsm.structures import Context


class Channel(nn.Module):
    """Mixes the channels of each token, [B L D] -> [B L D]."""


class StatefulChannel(Channel, ABC):
    """A channel mixer that also sees earlier tokens: forward(x, past, context) -> value, past.

    As in a stage, `past` is None at the start of a sequence, otherwise what the last call returned.
    """

    @abstractmethod
    def forward(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Stream, Any]:
        """Mix the channels of x, [B L D]."""

    def state_size(self) -> int:
        """Real numbers that one sequence keeps in `past`."""
        return 0


class Mlp(Channel):
    """Two projections with an activation between them.

    Args:
        d_model: width D.
        ratio: hidden width over d_model.
        activation: name of the activation.
    """

    def __init__(self, d_model: int, ratio: float, activation: str) -> None:
        super().__init__()
        hidden = round(ratio * d_model)
        self.expand = nn.Linear(d_model, hidden)
        self.activation = choose("channel.activation", activation, ELEMENTWISE)
        self.contract = nn.Linear(hidden, d_model)

    def forward(self, x: Stream) -> Stream:
        return self.contract(self.activation(self.expand(x)))


class Glu(Channel):
    """A gated linear unit, arXiv 2002.05202: contract(activation(gate x) * expand x).

    Args:
        d_model: width D.
        ratio: hidden width over d_model; 8/3 has the parameters of an MLP with ratio 4.
        activation: name of the gate's activation: sigmoid GLU, silu SwiGLU, identity SGLU.
    """

    def __init__(self, d_model: int, ratio: float, activation: str) -> None:
        super().__init__()
        hidden = round(ratio * d_model)
        self.gate = nn.Linear(d_model, hidden, bias=False)
        self.expand = nn.Linear(d_model, hidden, bias=False)
        self.activation = choose("channel.activation", activation, ELEMENTWISE)
        self.contract = nn.Linear(hidden, d_model, bias=False)

    def forward(self, x: Stream) -> Stream:
        return self.contract(self.activation(self.gate(x)) * self.expand(x))


class ShiftedMlp(StatefulChannel):
    """An MLP, mostly gated, whose parts see mixtures of the current and the previous token.

        sigmoid(W_gate mix_gate) * (W_contract activation(W_expand mix_key)),   mix = share x_t + (1 - share) x_{t-1}

    Args:
        d_model: width D.
        layer, num_layers: position in the model, which the shares start from.
        ratio: hidden width over d_model.
        activation: of the hidden channels.
        gate: whether there is a gate.
        mix: how the shares of `key` and `gate` start, as in `token_shift.shares`; null: that part sees x_t.
    Source: channel mixing of RWKV-4 (2305.13048), 5 and 6 (2404.05892); without gate of RWKV-7 (2503.14456).
    """

    def __init__(
        self,
        d_model: int,
        layer: int,
        num_layers: int,
        ratio: float,
        activation: str,
        gate: bool,
        mix: dict[str, list[float] | None],
    ) -> None:
        super().__init__()
        hidden, self.d_model = round(ratio * d_model), d_model
        self.shares = shares(d_model, layer, num_layers, mix, ("key", "gate") if gate else ("key",))
        self.expand = nn.Linear(d_model, hidden, bias=False)
        self.gate = nn.Linear(d_model, d_model, bias=False) if gate else None
        self.activation = choose("channel.activation", activation, ELEMENTWISE)
        self.contract = nn.Linear(hidden, d_model, bias=False)

    def forward(self, x: Stream, past: Last | None = None, context: Context | None = None) -> tuple[Stream, Last]:
        shifted, past = previous(x, past, context)
        mixed = {part: torch.lerp(shifted, x, share.to(x.dtype)) for part, share in self.shares.items()}
        value = self.contract(self.activation(self.expand(mixed.get("key", x))))
        return value if self.gate is None else torch.sigmoid(self.gate(mixed.get("gate", x))) * value, past

    def state_size(self) -> int:
        return self.d_model
