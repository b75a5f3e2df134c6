"""Softmax attention: the baseline, with a state that grows by one key and one value per token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.export import register_dataclass
from torch.nn.functional import scaled_dot_product_attention

from lcsm.errors import UsageError
from lcsm.mixers.base import Mixer
from lcsm.ops.cost import Cost
from lcsm.ops.dispatch import AlgorithmChoice
from lcsm.shapes import Bool, Float, Int, Resets, Stream, Tensor
from lcsm.stages.segments import resets_of, with_resets
from lcsm.structures import Context


@dataclass
class Cache:
    """The keys, values and document ids of every token so far, or of those that later tokens may see.

    Args:
        keys, values: [B H S P], None before the first token; keys are already rotated.
        documents: running number of each token's document, [B S]; None as long as no call had document ids.
        segment: id of the last token, [B], once ids were given.
        position: number of tokens so far.
    """

    keys: Tensor | None = None
    values: Tensor | None = None
    documents: Tensor | None = None
    segment: Tensor | None = None
    position: int = 0


register_dataclass(Cache)


def rotary(x: Float[Tensor, "B H L P"], start: int, base: float) -> Float[Tensor, "B H L P"]:
    """Turn the halves of each head as pairs by position * base^(-2j/P), arXiv 2104.09864."""
    half = x.shape[-1] // 2
    # in float64, because float32 loses the phase at late positions
    rate = base ** (-torch.arange(half, device=x.device, dtype=torch.float64) / half)
    angle = torch.arange(start, start + x.shape[2], device=x.device, dtype=torch.float64)[:, None] * rate
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class Attention(Mixer):
    """Softmax attention over all earlier tokens of the same document, or over all of them.

    Args:
        d_model: width D.
        num_heads: heads H; must divide d_model, with an even quotient where positions are rotary.
        position: "rotary" turns queries and keys, "none" leaves order to the causal mask.
        rotary_base: base of the rotary wavelengths.
        causal: whether later tokens are hidden; without, attention sees the future and cannot stream.
        window: how many tokens are seen at most, the current one included; None for all. Needs causal.
    """

    def __init__(
        self, d_model: int, num_heads: int, position: str, rotary_base: float, causal: bool, window: int | None
    ) -> None:
        super().__init__()
        if window is not None and (window < 1 or not causal):
            raise UsageError(f"mixer.window={window} must be at least 1 and needs mixer.causal=true: use null for none")
        if d_model % num_heads:
            raise UsageError(f"mixer.num_heads={num_heads} must divide model.d_model={d_model}: choose a divisor")
        if position not in ("rotary", "none"):
            raise UsageError(f"mixer.position={position!r} is unknown: choose rotary or none")
        if position == "rotary" and (d_model // num_heads) % 2:
            raise UsageError(
                f"mixer.position=rotary needs an even head width, got {d_model // num_heads}: change mixer.num_heads"
            )
        self.num_heads, self.position, self.rotary_base, self.causal = num_heads, position, rotary_base, causal
        self.project = nn.Linear(d_model, 3 * d_model, bias=False)
        self.output = nn.Linear(d_model, d_model, bias=False)
        self.window, self.causal_setting = window, None if causal else "causal=true"
        reach = "all" if not causal else "all earlier" if window is None else f"the last {window}"
        self.structure = f"softmax over {reach} tokens"

    def forward(
        self, x: Stream, state: Cache | None = None, context: Context | None = None
    ) -> tuple[Stream, Cache | None]:
        batch, length, width = x.shape
        if state is not None and not self.causal:
            raise UsageError("attention that sees the future cannot stream: set mixer.causal=true")
        start = 0 if state is None or state.keys is None else state.keys.shape[2]
        position = 0 if state is None else state.position
        query, key, value = self.heads(x, position)
        context, segment = with_resets(context, None if state is None else state.segment)
        documents = number_documents(
            resets_of(context), None if state is None else state.documents, batch, start, length
        )
        if state is not None:
            if state.keys is not None and state.values is not None:
                key, value = torch.cat([state.keys, key], 2), torch.cat([state.values, value], 2)
            state = self.kept(key, value, documents, segment, position + length)
        mask = None
        if start or documents is not None or (self.window is not None and length > self.window):
            mask = self.seen(length, start, x.device)
            if documents is not None:
                mask = (mask & (documents[:, start:, None] == documents[:, None, :]))[:, None]
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=self.causal and mask is None)
        return self.output(mixed.transpose(1, 2).reshape(batch, length, width)), state

    def seen(self, length: int, start: int, device: torch.device) -> Bool[Tensor, "L S"]:
        """The mask of visible tokens by position: `length` of them, that follow `start` others."""
        seen = torch.ones(length, start + length, dtype=torch.bool, device=device)
        seen = seen.tril(start) if self.causal else seen
        return seen if self.window is None else seen.triu(start + 1 - self.window)

    def kept(
        self, key: Tensor, value: Tensor, documents: Tensor | None, segment: Tensor | None, position: int
    ) -> Cache:
        """The part of the cache that later tokens may still see."""
        first = 0 if self.window is None else max(key.shape[2] - self.window + 1, 0)
        documents = None if documents is None else documents[:, first:]
        return Cache(key[:, :, first:], value[:, :, first:], documents, segment, position)

    def heads(self, x: Stream, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B H L P] of tokens that begin at position `start`."""
        batch, length, width = x.shape
        heads = self.project(x).view(batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        if self.position == "rotary":
            query, key = rotary(query, start, self.rotary_base), rotary(key, start, self.rotary_base)
        return query, key, value

    def weights(self, x: Stream) -> Float[Tensor, "B H L L"]:
        """The softmax weights themselves, which `forward` never builds; for figures."""
        query, key, _ = self.heads(x, 0)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        return scores.masked_fill(~self.seen(x.shape[1], 0, x.device), -torch.inf).softmax(-1)

    def initial_state(self) -> Cache:
        return Cache()

    def state_size(self, length: int) -> int:
        kept = length if self.window is None else min(length, self.window - 1)
        return 2 * kept * self.project.in_features

    def recurrence_flops(self, length: int) -> int:
        return 4 * self.reach(length) * self.project.in_features

    def choice(self, device: str) -> AlgorithmChoice:
        name = scaled_dot_product_attention.__name__
        return AlgorithmChoice(name, scaled_dot_product_attention, (name,), "the only one")

    def costs(self, length: int, device: str) -> dict[str, Cost]:
        order = "O(L² D)" if self.window is None else "O(L min(L, window) D)"
        return {self.choice(device).name: Cost("all pairs of tokens", order, self.recurrence_flops(length), 1)}

    def reach(self, length: int) -> int:
        """The number of tokens, of `length`, that the last one sees."""
        return length if self.window is None else min(length, self.window)


def number_documents(
    resets: Resets | None, before: Int[Tensor, "B S"] | None, batch: int, start: int, length: int
) -> Int[Tensor, "B T"] | None:
    """The running number of the document of every token so far, [B S + L]; None as long as no call had ids.

    Ids may come back later in a row, running numbers do not.

    Args:
        resets: True where a token of this call begins a document, [B L].
        before: the numbers of the `start` tokens kept from earlier calls.
        batch, start, length: the sizes B, S and L.
    """
    known = resets if resets is not None else before
    if known is None:
        return None
    if before is None:
        before = known.new_zeros(batch, start, dtype=torch.long)
    number = known.new_zeros(batch, length, dtype=torch.long) if resets is None else resets.cumsum(1)
    if start:
        number = number + before[:, -1:]
    return torch.cat([before, number], 1)
