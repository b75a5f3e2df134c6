"""Shrinks that read the memory along a row of weights: queries."""

from typing import Any

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.shapes import Factor, Float, Num, Stream, Tensor
from lcsm.stages.base import Shrink
from lcsm.stages.vectors.base import DataDrivenVector, HandCraftedVector, LearnedVector
from lcsm.structures import Context, widen


class HandCraftedShrink(HandCraftedVector, Shrink):
    """A fixed shrink, [1 1 1 1 1], [1 1 1 N 1] or [1 1 H N 1]."""

    group = "shrink"


class LearnedShrink(LearnedVector, Shrink):
    """A trained shrink, [1 1 H N 1] or [1 1 H N P]."""

    group = "shrink"


class DataDrivenShrink(DataDrivenVector, Shrink):
    """A shrink projected from what the stage sees, [B L H N 1]."""

    group = "shrink"


class MemoryProjection(Shrink):
    """The whole memory of a head, projected: the read-out C m_t of a multiple-output system.

        output_t[q] = sum_n C[q, n] memory_t[n],    or Re(.) of it with complex C and memory

    Args:
        complex_memory: whether the memory is complex (an oscillation with a phase); the projection is then complex too.
    Returns:
        vector: [1 1 1 1 1], as nothing is read by a vector. read_out: from the memory [B L H N] to
            [B L H output_dim], with output_dim = d_model / num_heads.
    Raises:
        UsageError: num_heads does not divide d_model.
    Source: S5 (2208.04933), LRU (2303.06349), with the factor 2 of conjugate pairs left to the learned C.
    """

    reads = "memory"
    one: Tensor

    def __init__(self, d_model: int, num_heads: int, state_dim: int, complex_memory: bool) -> None:
        super().__init__()
        if d_model % num_heads:
            raise UsageError(
                f"shrink=memory splits its outputs among heads, but mixer.num_heads={num_heads} does not divide "
                f"model.d_model={d_model}:\nchoose a number of heads that divides it"
            )
        self.complex_memory = complex_memory
        self.output_dim = d_model // num_heads
        fan_in = state_dim * (2 if complex_memory else 1)
        weight = torch.empty(num_heads, self.output_dim, fan_in)
        self.weight = nn.Parameter(weight.uniform_(-(fan_in**-0.5), fan_in**-0.5))
        self.register_buffer("one", torch.ones(1, 1, 1, 1, 1), persistent=False)

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Factor, Any]:
        return self.one, past

    def read_out(self, outputs: Num[Tensor, "B L H N"]) -> Float[Tensor, "B L H Q"]:
        """Project the memory of every step and head, [B L H N], to [B L H Q] with Q = output_dim."""
        if self.complex_memory:
            outputs = torch.cat([outputs.real, outputs.imag], -1)
        with torch.autocast(outputs.device.type, enabled=False):
            return torch.einsum("blhn,hqn->blhq", outputs, widen(self.weight))


class MemoryParts(Shrink):
    """Real and imaginary parts of the whole memory of a head, with nothing to learn.

    Returns:
        vector: [1 1 1 1 1], as nothing is read by a vector. read_out: from the memory [B L H N] to [B L H 2N], the real
            parts first.
    Source: HGRN (2311.04823), where every channel is a head with one row.
    """

    reads = "memory"
    complex_memory = True
    one: Tensor

    def __init__(self, state_dim: int) -> None:
        super().__init__()
        self.output_dim = 2 * state_dim
        self.register_buffer("one", torch.ones(1, 1, 1, 1, 1), persistent=False)

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Factor, Any]:
        return self.one, past

    def read_out(self, outputs: Num[Tensor, "B L H N"]) -> Float[Tensor, "B L H Q"]:
        """The parts of the memory of every step and head, [B L H 2N]."""
        return torch.cat([outputs.real, outputs.imag], -1)
