"""The stages of RWKV-7 around its oscillation: what each reader sees, the value and its residual, the receptance."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lcsm.ops.recurrence import Read, Written
from lcsm.parameters import mark, own_start
from lcsm.shapes import Factor, Float, Inputs, Stream, Tensor
from lcsm.stages.base import READERS, Input, Shrink, Source
from lcsm.stages.rwkv.token_shift import Last, keep, previous, shares
from lcsm.stages.settings import positive
from lcsm.stages.vectors.base import DataDrivenVector
from lcsm.structures import Context

# What is mixed with the token before: the readers, and two mixtures for the oscillation in place of one.
MIXED = ("input", "expand", "shrink", "gate", "decay", "rate")
FIRST_VALUE = "first_value"


def centred(count: int) -> Float[Tensor, " count"]:
    """-0.5 to 0.5 over the channels."""
    return torch.linspace(-0.5, 0.5, count) if count > 1 else torch.zeros(count)


class LowRankMap(nn.Module):
    """offset + V activation(U x): the small maps of RWKV-7, which start at their offset.

    Args:
        inputs, outputs: widths.
        rank: rows of U, > 0.
        offset: start of the learned offset, [outputs].
        activation: between the two factors; None for none.
        group: learning-rate group of the offset; None for none.
    Source: RWKV-7 (2503.14456), its code: U starts at zero, V orthogonal times 0.1.
    """

    def __init__(
        self, inputs: int, outputs: int, rank: int, offset: Tensor, activation: Any = None, group: str | None = None
    ) -> None:
        super().__init__()
        self.reduce = own_start(nn.Linear(inputs, int(positive("rank", rank)), bias=False))
        self.extend = own_start(nn.Linear(rank, outputs, bias=False))
        nn.init.zeros_(self.reduce.weight)
        nn.init.orthogonal_(self.extend.weight, 0.1)
        self.offset = mark(nn.Parameter(offset), group=group)
        self.activation = activation

    def forward(self, x: Float[Tensor, "B L W"]) -> Float[Tensor, "B L V"]:
        """Map x."""
        reduced = self.reduce(x)
        return self.extend(reduced if self.activation is None else self.activation(reduced)) + self.offset


class Rwkv7Source(Source):
    """Every reader sees share * x_t + (1 - share) * x_{t-1}, each with a learned share per channel.

    The oscillation sees two mixtures side by side, for its decay and for its rate. The gate sees sigmoid(W mixture)
    with few channels, so that with `mixer.output.gate=identity` the outputs are multiplied by V sigmoid(W mixture).
    The skip sees x.

    Args:
        mix: a power and an offset for each of input, expand, shrink, gate, decay and rate, which start its shares as
            `token_shift.mixture`.
        gate_rank: channels that the gate sees, > 0.
    Source: RWKV-7 (2503.14456).
    """

    def __init__(self, d_model: int, layer: int, num_layers: int, mix: dict[str, list[float]], gate_rank: int) -> None:
        super().__init__()
        self.d_model = d_model
        self.reduce: nn.Linear | None = nn.Linear(d_model, int(positive("source.gate_rank", gate_rank)), bias=False)
        self.widths = {**dict.fromkeys(READERS, d_model), "oscillation": 2 * d_model, "gate": gate_rank}
        self.shares = shares(d_model, layer, num_layers, {name: mix.get(name, []) for name in (*MIXED, *mix)}, MIXED)

    def forward(
        self, x: Stream, past: Last | None = None, context: Context | None = None
    ) -> tuple[dict[str, Float[Tensor, "B L W"]], Any]:
        shifted, past = previous(x, past, context)
        mixed = {name: torch.lerp(shifted, x, share.to(x.dtype)) for name, share in self.shares.items()}
        if "decay" in mixed:
            mixed["oscillation"] = torch.cat([mixed.pop("decay"), mixed.pop("rate")], -1)
        if self.reduce is not None:
            mixed["gate"] = torch.sigmoid(self.reduce(mixed["gate"]))
        return {reader: mixed.get(reader, x) for reader in READERS}, past

    def serve(self, readers: Collection[str]) -> None:
        if "gate" not in readers:
            self.reduce = None
        keep(self.shares, {*readers, *(("decay", "rate") if "oscillation" in readers else ())})

    def state_size(self) -> int:
        return self.d_model


class ResidualValue(Input):
    """A projection that later layers mix with the first layer's, [B L H P].

        value_t = W x_t,   then value_t + sigmoid(offset + V U x_t) (first_t - value_t) from the second layer on

    The first layer of a call that has this stage leaves its value in `context.shared`; without it nothing is mixed.

    Args:
        rank: rows of U, > 0.
    Source: RWKV-7 (2503.14456).
    """

    varies = "LHP"
    shares_values = True

    def __init__(
        self, input_dim: int, num_heads: int, value_dim: int, common: dict[tuple[Any, ...], nn.Module], rank: int
    ) -> None:
        super().__init__()
        self.sizes, width = (num_heads, value_dim), num_heads * value_dim
        self.projection = nn.Linear(input_dim, width, bias=False)
        self.share: LowRankMap | None = None
        # the first of them, which need not be the first layer, has nothing to mix with
        if common.setdefault((FIRST_VALUE,), self) is not self:
            self.share = LowRankMap(input_dim, width, rank, 0.73 - 0.4 * centred(width))

    def forward(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Inputs, Any]:
        value = self.projection(x)
        shared = None if context is None else context.shared
        if shared is not None:
            first = shared.setdefault(FIRST_VALUE, value)
            if self.share is not None and first is not value:
                # under autocast the share keeps its own precision, which lerp would refuse
                value = torch.lerp(value, first, torch.sigmoid(self.share(x)).to(value.dtype))
        return value.unflatten(-1, self.sizes), past


class Receptance(DataDrivenVector, Shrink):
    """A projected shrink, beside which the current token reads its own write after the normaliser.

        output_t = normaliser(memory_t^T shrink_t) + (sum_n shrink_t bonus expand_t) input_t

    Args:
        bonus: start of the bonus of every row.
    Source: RWKV-7 (2503.14456).
    """

    group = "shrink"
    adds_late = True

    def __init__(self, input_dim: int, num_heads: int, state_dim: int, bonus: float) -> None:
        super().__init__(input_dim, num_heads, state_dim, "identity", False, None, None, False)
        self.bonus = mark(nn.Parameter(torch.full((num_heads, state_dim), bonus)))

    def read(self, outputs: Tensor, written: Written, shrink: Factor) -> Read:
        return replace(
            written.read(outputs), late=written.current_token_bonus(shrink, self.bonus[None, None, ..., None])
        )
