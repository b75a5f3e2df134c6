"""Decays made of a data-driven vector and learned weights, for every entry of the memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import RealFactor, Stream, Tensor, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.decay.axes import AXES, sizes
from lcsm.stages.settings import positive
from lcsm.structures import LOG_DECAY_FLOOR, Context, Diagonal, rows, widen


@dataclass(frozen=True, kw_only=True)
class MixedDiagonal(Diagonal):
    """A diagonal whose log-decay has one more term, log(sigmoid(logits * weights)) / temperature.

    The term is neither a sum nor a product of vectors in the log domain; it is formed for the steps that an algorithm
    asks for, so that nothing of size B L H N P is ever built.

    Args:
        logits: data-driven, [B L H N 1] or [B L H 1 P].
        weights: learned, [1 1 H N P], [1 1 H N 1] or [1 1 H 1 P].
        temperature: [1 1 1 1 1], > 0.
    """

    logits: RealFactor
    weights: RealFactor
    temperature: RealFactor

    def log(self, start: int, stop: int) -> RealFactor:
        product = rows(self.logits, start, stop) * rows(self.weights, start, stop)
        term = F.logsigmoid(product) / rows(self.temperature, start, stop)
        return (super().log(start, stop) + term).clamp_min(LOG_DECAY_FLOOR)


class Mixed(Oscillation):
    """Decay entry (n, p) by sigmoid(vector_t * weights[n, p])^(1 / tau), with vector_t = W x_t.

    Args:
        vector: axis of the data-driven vector, rows or columns.
        weights: axes of the learned weights, rows, columns or full; together they must reach every entry.
        tau: temperature; larger forgets more slowly. Dimensionless, > 0.
        std: standard deviation of the normal initialisation of the weights.
    Returns:
        MixedDiagonal.
    Raises:
        UsageError: vector and weights lie along the same axis.
    Source: EOS, o_type = 6 (rows, full), 7 (columns, full), 8 (columns, rows), 9 (rows, columns); they
        fail with an AttributeError in the release.
    """

    temperature: Tensor

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        vector: Literal["rows", "columns"],
        weights: Literal["rows", "columns", "full"],
        tau: float,
        std: float,
    ) -> None:
        super().__init__()
        if vector == weights:
            raise UsageError(
                f"oscillation.vector={vector!r} and oscillation.weights={weights!r} must reach every entry together:\n"
                "choose different axes, or oscillation=diag for a decay per row alone"
            )
        self.shape = sizes(vector, num_heads, state_dim, value_dim)
        shape = sizes(weights, num_heads, state_dim, value_dim)
        self.decay = f"L{AXES[vector]}*{AXES[weights]}"
        self.projection = nn.Linear(input_dim, self.shape[0] * self.shape[1] * self.shape[2], bias=False)
        self.weights = mark(nn.Parameter(std * torch.randn(shape)), group="oscillation")
        temperature = torch.full((1, 1, 1, 1, 1), float(positive("oscillation.tau", tau)))
        self.register_buffer("temperature", temperature, persistent=False)

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        structure = MixedDiagonal(
            log_decay=torch.zeros_like(self.temperature),
            logits=widen(self.projection(x)).unflatten(-1, self.shape),
            weights=widen(self.weights)[None, None],
            temperature=widen(self.temperature),
        )
        return structure, past
