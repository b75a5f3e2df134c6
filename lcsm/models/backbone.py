"""The stack of blocks that language models and classifiers share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lcsm.mixers.base import Mixer
from lcsm.models.block import Block, make_norm
from lcsm.shapes import Stream
from lcsm.structures import Context


class Backbone(nn.Module):
    """Blocks one after the other, then a norm where there is one.

    Args:
        blocks: the layers, first to last.
        d_model: width D.
        norm, epsilon, momentum: kind and constants of the final norm, see `block.make_norm`; None for no norm.
    """

    def __init__(
        self, blocks: list[Block], d_model: int, norm: str | None, epsilon: float, momentum: float | None = None
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.layers = nn.ModuleList(blocks)
        self.norm = nn.Identity() if norm is None else make_norm(norm, d_model, epsilon, momentum)
        self.shares_values = any(
            getattr(module, "shares_values", False) for block in blocks for module in block.modules()
        )

    def forward(
        self, x: Stream, state: list[Any] | None = None, context: Context | None = None
    ) -> tuple[Stream, list[Any] | None]:
        """Map [B L D] -> [B L D]; the state is the list of the layers' states."""
        if self.shares_values:
            context = replace(context or Context(), shared={})
        kept: list[Any] = []
        for index, layer in enumerate(self.layers):
            x, layer_state = layer(x, None if state is None else state[index], context)
            kept.append(layer_state)
        return self.norm(x), None if state is None else kept

    def compile_layers(self) -> None:
        """Let torch.compile make a program of each layer; algorithms stay out, and weights keep their names."""
        for layer in self.layers:
            layer.compile()

    def mixers(self) -> list[Mixer]:
        """The token mixers, first layer to last."""
        return [layer.mixer for layer in self.layers if isinstance(layer, Block)]

    def initial_state(self) -> list[Any]:
        """The state before the first token of a stream."""
        return [layer.initial_state() for layer in self.layers if isinstance(layer, Block)]

    def state_size(self, length: int) -> int:
        """Real numbers that one sequence keeps after `length` tokens."""
        return sum(layer.state_size(length) for layer in self.layers if isinstance(layer, Block))


def masked_mean(x: Stream, mask: torch.Tensor | None) -> torch.Tensor:
    """Mean over time of the positions where mask [B L] is True; over all of them without a mask. [B L D] -> [B D]."""
    if mask is None:
        return x.mean(1)
    weight = mask.to(x.dtype)[..., None]
    return (x * weight).sum(1) / weight.sum(1).clamp_min(1)
