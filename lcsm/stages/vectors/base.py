"""Three ways to generate an expand or a shrink: hand-crafted, learned, data-driven; each with its own activation."""

from typing import Any, Literal

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import Factor, Stream, Tensor
from lcsm.stages.activation import ACTIVATIONS
from lcsm.stages.base import Stage
from lcsm.stages.settings import choose
from lcsm.stages.short_convolution import ShortConvolution
from lcsm.structures import Context


def ones(num_heads: int, state_dim: int) -> Tensor:
    """One for every row, [1 N]."""
    return torch.ones(1, state_dim)


def legs(num_heads: int, state_dim: int) -> Tensor:
    """The input vector of HiPPO-LegS, sqrt(2 n + 1), the same for every head, [1 N]."""
    return (2 * torch.arange(state_dim) + 1).to(torch.get_default_dtype()).sqrt()[None]


def normal(num_heads: int, state_dim: int) -> Tensor:
    """Standard normal numbers, drawn once when the model is built, [H N]; S4 starts its read-out so."""
    return torch.randn(num_heads, state_dim)


VALUES = {"ones": (ones, ""), "legs": (legs, "N"), "normal": (normal, "HN")}
LEARNED_AXES = {"rows": "HN", "full": "HNP"}


class HandCraftedVector(Stage):
    """A fixed direction, the same at every step and never trained.

    Args:
        values: ones; legs (HiPPO-LegS input vector); normal (drawn once at build, kept in checkpoints).
        activation: applied to the values, one of `activation.ACTIVATIONS`.
    Returns:
        The direction, [1 1 1 1 1] (ones), [1 1 1 N 1] (legs) or [1 1 H N 1] (normal).
    """

    group: str
    direction: Tensor

    def __init__(
        self, num_heads: int, state_dim: int, values: Literal["ones", "legs", "normal"], activation: str
    ) -> None:
        super().__init__()
        function, self.varies = choose(f"{self.group}.values", values, VALUES)
        direction = choose(f"{self.group}.activation", activation, ACTIVATIONS)(
            function(num_heads, state_dim)[..., None]
        )
        # softmax needs all rows; what is constant along them is kept once
        self.register_buffer("direction", direction if self.varies else direction[:, :1])

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Factor, Any]:
        return self.direction[None, None], past


class LearnedVector(Stage):
    """A trained direction, the same at every step.

    Args:
        axes: rows (one vector per head) or full (one vector per channel: every channel is a filter of its own).
        std: standard deviation of the normal initialisation.
        activation: applied to the parameter, one of `activation.ACTIVATIONS`.
    Returns:
        The direction, [1 1 H N 1] or [1 1 H N P].
    Source: EOS, e_type = 0 and s_type = 0 of the release are `full` with std 0.1.
    """

    group: str

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        axes: Literal["rows", "full"],
        std: float,
        activation: str,
    ) -> None:
        super().__init__()
        self.varies = choose(f"{self.group}.axes", axes, LEARNED_AXES)
        self.activation = choose(f"{self.group}.activation", activation, ACTIVATIONS)
        columns = value_dim if axes == "full" else 1
        self.direction = mark(nn.Parameter(std * torch.randn(num_heads, state_dim, columns)))

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Factor, Any]:
        return self.activation(self.direction)[None, None], past


class DataDrivenVector(Stage):
    """A direction that is a linear projection of what the stage sees at each step.

        scale * activation(convolution(W x_t + b))

    Args:
        activation: applied to the projection, one of `activation.ACTIVATIONS`.
        bias: whether the projection has one.
        kernel_size: taps of a short convolution of the projection, before the activation; null for none.
        num_groups: the heads of a group share one direction; null gives every head its own.
        scaled: multiply by state_dim^-0.5, as softmax attention does with its queries.
    Returns:
        The direction, [B L H N 1]; [B L 1 N 1] for a single group.
    Raises:
        UsageError: num_groups does not divide num_heads.
    Source: EOS, e_type = 1 and s_type = 1 of the release; groups and the convolution as in Mamba-2 (2405.21060).
    """

    group: str

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        state_dim: int,
        activation: str,
        bias: bool,
        kernel_size: int | None,
        num_groups: int | None,
        scaled: bool,
    ) -> None:
        super().__init__()
        groups = num_heads if num_groups is None else num_groups
        if groups < 1 or num_heads % groups:
            raise UsageError(
                f"{self.group}.num_groups={num_groups} must divide mixer.num_heads={num_heads}: "
                "choose a divisor, or null for a direction per head"
            )
        self.varies = "LHN" if groups > 1 or num_heads == 1 else "LN"
        self.sizes = (groups, state_dim, 1)
        self.repeats = num_heads // groups if groups > 1 else 1
        self.scale = state_dim**-0.5 if scaled else 1.0
        self.activation = choose(f"{self.group}.activation", activation, ACTIVATIONS)
        self.projection = nn.Linear(input_dim, groups * state_dim, bias=bias)
        self.convolution: ShortConvolution | None = None
        if kernel_size is not None:
            self.convolution = ShortConvolution(groups * state_dim, kernel_size, "identity")

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Factor, Any]:
        value = self.projection(x)
        if self.convolution is not None:
            value, past = self.convolution(value, past, context)
        direction = self.scale * self.activation(value.unflatten(-1, self.sizes))
        return direction.repeat_interleave(self.repeats, 2) if self.repeats > 1 else direction, past

    def state_size(self) -> int:
        return 0 if self.convolution is None else self.convolution.state_size()
