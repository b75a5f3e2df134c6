"""The residual block, norms before or after: token mixer, then channel mixer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import register_dataclass

from lcsm.errors import UsageError
from lcsm.mixers.base import Mixer
from lcsm.models.channel import Channel, StatefulChannel
from lcsm.shapes import Int, Stream, Tensor
from lcsm.stages.segments import with_resets
from lcsm.structures import Context


class BatchNorm(nn.BatchNorm1d):
    """Normalisation of each channel over batch and time, [B L D]: while training, tokens see each other through it."""

    def forward(self, x: Stream) -> Stream:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm, "batch": BatchNorm}


class TiedDropout(nn.Dropout):
    """Dropout of whole channels: each sequence of [B L D] keeps or loses a channel at all positions."""

    def forward(self, x: Stream) -> Stream:
        return x * super().forward(torch.ones_like(x[:, :1]))


def make_norm(kind: str, width: int, epsilon: float, momentum: float | None = None) -> nn.Module:
    """A normalisation over the channels of each token.

    Args:
        kind: "layer" (mean and variance), "rms" (root mean square only), or "batch" (statistics of each channel).
        width: number of channels.
        epsilon: added to the variance.
        momentum: of "batch", share of the newest batch in the statistics for evaluation; None for 0.1.
    Raises:
        UsageError: the kind is unknown, or has no momentum.
    """
    if kind not in NORMS:
        raise UsageError(f"block.norm={kind!r} is unknown: choose one of {', '.join(NORMS)}")
    if momentum is None:
        return NORMS[kind](width, eps=epsilon)
    if kind != "batch":
        raise UsageError(f"block.momentum={momentum} needs block.norm=batch, but it is {kind}: set block.momentum=null")
    return BatchNorm(width, eps=epsilon, momentum=momentum)


@dataclass
class BlockState:
    """The state of a block whose channel mixer is stateful too.

    Args:
        mixer: the state of the token mixer.
        channel: what the channel mixer keeps.
        segment: document id of the last token, [B], once segments were given.
    """

    mixer: Any
    channel: Any = None
    segment: Int[Tensor, " B"] | None = None


register_dataclass(BlockState)


class Block(nn.Module):
    """x + mixer(norm(x)), then + channel(norm(.)) where there is a channel mixer; or norm(x + mixer(x)) and so on.

    Args:
        mixer: the token mixer.
        channel: the channel mixer, or None.
        d_model: width D.
        norm, epsilon: kind and constant of the norms.
        dropout: probability of dropping what a residual branch adds.
        placement: "pre" normalises what a branch reads, "post" the sum after it.
        tied_dropout: whether a channel is dropped in the whole sequence at once.
        inner_dropout: whether the mixer also drops what its last projection or gate reads.
        momentum: of batch normalisation, see `make_norm`.
    """

    def __init__(
        self,
        mixer: Mixer,
        channel: Channel | None,
        d_model: int,
        norm: str,
        epsilon: float,
        dropout: float,
        placement: str,
        tied_dropout: bool,
        inner_dropout: bool = False,
        momentum: float | None = None,
    ) -> None:
        super().__init__()
        if placement not in ("pre", "post"):
            raise UsageError(f"block.placement={placement!r} is unknown: choose pre or post")
        self.placement = placement
        self.mixer_norm = make_norm(norm, d_model, epsilon, momentum)
        self.mixer = mixer
        self.channel_norm = nn.Identity() if channel is None else make_norm(norm, d_model, epsilon, momentum)
        self.channel = channel
        self.dropout = TiedDropout(dropout) if tied_dropout else nn.Dropout(dropout)
        if inner_dropout:
            mixer.share_dropout(self.dropout)

    def forward(self, x: Stream, state: Any = None, context: Context | None = None) -> tuple[Stream, Any]:
        """Map [B L D] -> [B L D]; the state is the mixer's, or a `BlockState` where the channel mixer keeps one too."""
        run = self._after if self.placement == "post" else self._before
        if not isinstance(self.channel, StatefulChannel):
            return run(x, state, None, context)[:2]
        if state is None:
            return run(x, None, None, with_resets(context, None)[0])[0], None
        context, segment = with_resets(context, state.segment)
        x, mixer, channel = run(x, state.mixer, state.channel, context)
        return x, BlockState(mixer, channel, segment)

    def _before(self, x: Stream, state: Any, past: Any, context: Context | None) -> tuple[Stream, Any, Any]:
        mixed, state = self.mixer(self.mixer_norm(x), state, context)
        x = x + self.dropout(mixed)
        if self.channel is not None:
            mixed, past = self._mix_channels(self.channel, self.channel_norm(x), past, context)
            x = x + self.dropout(mixed)
        return x, state, past

    def _after(self, x: Stream, state: Any, past: Any, context: Context | None) -> tuple[Stream, Any, Any]:
        mixed, state = self.mixer(x, state, context)
        x = self.mixer_norm(x + self.dropout(mixed))
        if self.channel is not None:
            mixed, past = self._mix_channels(self.channel, x, past, context)
            x = self.channel_norm(x + self.dropout(mixed))
        return x, state, past

    @staticmethod
    def _mix_channels(channel: Channel, x: Stream, past: Any, context: Context | None) -> tuple[Stream, Any]:
        return channel(x, past, context) if isinstance(channel, StatefulChannel) else (channel(x), None)

    def initial_state(self) -> Any:
        """The state before the first token of a stream."""
        state = self.mixer.initial_state()
        return BlockState(state) if isinstance(self.channel, StatefulChannel) else state

    def state_size(self, length: int) -> int:
        """Real numbers that one sequence keeps after `length` tokens."""
        channel = self.channel.state_size() if isinstance(self.channel, StatefulChannel) else 0
        return self.mixer.state_size(length) + channel
