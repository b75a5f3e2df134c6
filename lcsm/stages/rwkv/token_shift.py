"""Sources in which every reader sees a mixture of the current and the previous token."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import Float, Stream, Tensor
from lcsm.stages.base import READERS, Source
from lcsm.stages.rwkv.bonus import depth
from lcsm.stages.segments import resets_of
from lcsm.structures import Context

# The last token.
Last = Float[Tensor, "B D"]


def previous(x: Stream, past: Last | None, context: Context | None) -> tuple[Stream, Last]:
    """The token before each token, [B L D], zero where a document begins; and what the next call needs."""
    last, resets = torch.zeros_like(x[:, 0]) if past is None else past, resets_of(context)
    shifted = torch.cat([last[:, None].to(x.dtype), x[:, :-1]], 1)
    return shifted if resets is None else shifted.masked_fill(resets[..., None], 0), x[:, -1]


def mixture(
    width: int, layer: int, num_layers: int, power: float, offset: float, fall: float = 1.0
) -> Float[Tensor, " D"]:
    """The share of this token per channel: (channel / width)^(power (1 - layer / num_layers)^fall) + offset depth.

    Source: RWKV-4 (2305.13048), its code; fall 4 in the channel mixing of RWKV-7 (2503.14456).
    """
    exponent = power * (1 - layer / num_layers) ** fall
    return (torch.arange(width) / width) ** exponent + offset * depth(layer, num_layers)


def shares(
    width: int, layer: int, num_layers: int, mix: Mapping[str, list[float] | None], known: tuple[str, ...]
) -> nn.ParameterDict:
    """A learned share of the current token per channel for every reader of `mix`, started by `mixture`.

    Args:
        mix: per reader a power, an offset and perhaps a fall; null for one that sees the current token alone.
    Raises:
        UsageError: a reader is unknown, or has neither two nor three numbers.
    """
    wanted = {reader: numbers for reader, numbers in mix.items() if numbers is not None}
    for reader, numbers in wanted.items():
        if reader not in known or len(numbers) not in (2, 3):
            raise UsageError(
                f"mix.{reader}={numbers} must be a power and an offset of one of {', '.join(known)}, e.g. [1.0, 0.0]"
            )
    start = {reader: mixture(width, layer, num_layers, *numbers) for reader, numbers in wanted.items()}
    return nn.ParameterDict({reader: mark(nn.Parameter(value)) for reader, value in start.items()})


def keep(parts: nn.ParameterDict, readers: Collection[str]) -> None:
    """Remove what belongs to other readers."""
    for reader in [reader for reader in parts if reader not in readers]:
        del parts[reader]


class TokenShift(Source):
    """Readers see share * x_t + (1 - share) * x_{t-1}, each with a learned share per channel.

    Args:
        mix: per reader a power and an offset, which start its shares as `mixture`; the other readers see x_t. Readers
            that the mixer does not have are left out.
    Source: RWKV-4 (2305.13048), RWKV-5 (2404.05892).
    """

    def __init__(self, d_model: int, layer: int, num_layers: int, mix: dict[str, list[float] | None]) -> None:
        super().__init__()
        self.widths = dict.fromkeys(READERS, d_model)
        self.d_model = d_model
        self.shares = shares(d_model, layer, num_layers, mix, READERS)

    def forward(
        self, x: Stream, past: Last | None = None, context: Context | None = None
    ) -> tuple[dict[str, Float[Tensor, "B L W"]], Any]:
        shifted, past = previous(x, past, context)
        mixed = {reader: torch.lerp(shifted, x, share.to(x.dtype)) for reader, share in self.shares.items()}
        return {reader: mixed.get(reader, x) for reader in READERS}, past

    def serve(self, readers: Collection[str]) -> None:
        keep(self.shares, readers)

    def state_size(self) -> int:
        return self.d_model


class DynamicTokenShift(TokenShift):
    """A token shift whose shares follow the tokens, by a low-rank map of a first mixture.

        first = lerp(x_{t-1}, x_t, share_first),   share_t = share + tanh(first U) V

    Args:
        mix: as in `TokenShift`.
        first: power and offset of the first mixture.
        rank: rank of the map for each reader, > 0.
    Source: RWKV-6 (2404.05892); U starts at zero, V uniform in +-0.01.
    """

    def __init__(
        self, d_model: int, layer: int, num_layers: int, mix: dict[str, list[float]], first: list[float], rank: int
    ) -> None:
        super().__init__(d_model, layer, num_layers, {**mix})
        self.first = mark(nn.Parameter(mixture(d_model, layer, num_layers, *first)))
        self.reduce = nn.Parameter(torch.zeros(len(mix), rank, d_model))
        self.extend = nn.Parameter(torch.empty(len(mix), d_model, rank).uniform_(-0.01, 0.01))

    def serve(self, readers: Collection[str]) -> None:
        served = [index for index, reader in enumerate(self.shares) if reader in readers]
        self.reduce, self.extend = (nn.Parameter(part.detach()[served]) for part in (self.reduce, self.extend))
        super().serve(readers)

    def forward(
        self, x: Stream, past: Last | None = None, context: Context | None = None
    ) -> tuple[dict[str, Float[Tensor, "B L W"]], Any]:
        shifted, past = previous(x, past, context)
        first = torch.lerp(shifted, x, self.first.to(x.dtype))
        dynamic = torch.einsum("blmr,mdr->mbld", torch.einsum("bld,mrd->blmr", first, self.reduce).tanh(), self.extend)
        mixed = {
            reader: torch.lerp(shifted, x, (share + dynamic[index]).to(x.dtype))
            for index, (reader, share) in enumerate(self.shares.items())
        }
        return {reader: mixed.get(reader, x) for reader in READERS}, past
