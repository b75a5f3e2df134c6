"""Learned complex directions of write and read: B and C of state space systems with one input and one output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from lcsm.parameters import mark
from lcsm.shapes import Complex, Factor, Stream, Tensor
from lcsm.stages.base import Expand, Shrink, Stage
from lcsm.stages.settings import choose
from lcsm.stages.state_space import hippo
from lcsm.structures import Context, widen


def ones(num_heads: int, state_dim: int) -> Complex[Tensor, "H N"]:
    """One for every mode."""
    return torch.ones(num_heads, state_dim, dtype=torch.complex128, device="cpu")


def normal(num_heads: int, state_dim: int) -> Complex[Tensor, "H N"]:
    """Complex standard normal numbers, variance 1/2 in each part."""
    return torch.randn(num_heads, state_dim, dtype=torch.complex128, device="cpu")


def wide_normal(num_heads: int, state_dim: int) -> Complex[Tensor, "H N"]:
    """Complex normal numbers, variance 1 in each part."""
    return normal(num_heads, state_dim) * 2**0.5


def inputs_of(measure: str) -> Callable[[int, int], Complex[Tensor, "H N"]]:
    """The input vector of a HiPPO system in its modes, one of each conjugate pair, the same for every head."""

    def build(num_heads: int, state_dim: int) -> Complex[Tensor, "H N"]:
        return hippo.modes(measure, 2 * state_dim, pairs=True).inputs.repeat(num_heads, 1)

    return build


INITS = {
    "ones": ones,
    "legs": inputs_of("legs"),
    "fourier": inputs_of("fourier"),
    "normal": normal,
    "wide_normal": wide_normal,
}


class LearnedComplexVector(Stage):
    """A trained complex direction per head, the same at every step, kept as pairs of real numbers.

    Args:
        init: ones, legs or fourier (input vector of that HiPPO system), normal (variance 1/2 in each part) or
            wide_normal (variance 1 in each part).
    Returns:
        The direction, [1 1 H N 1].
    """

    group: str
    rate_group: str | None
    varies = "HN"

    def __init__(
        self, num_heads: int, state_dim: int, init: Literal["ones", "legs", "fourier", "normal", "wide_normal"]
    ) -> None:
        super().__init__()
        start = choose(f"{self.group}.init", init, INITS)(num_heads, state_dim)
        pairs = torch.view_as_real(start.resolve_conj()).to(torch.get_default_dtype())
        self.direction = mark(nn.Parameter(pairs), group=self.rate_group)

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Factor, Any]:
        return torch.view_as_complex(widen(self.direction))[None, None, ..., None], past


class LearnedComplexExpand(LearnedComplexVector, Expand):
    """B of S4 and S4D, [1 1 H N 1]."""

    complex_values = True
    group = "expand"
    rate_group = "oscillation"


class LearnedComplexShrink(LearnedComplexVector, Shrink):
    """C of S4 and S4D, W of DSS, [1 1 H N 1]."""

    group = "shrink"
    rate_group = None
    complex_memory = True
