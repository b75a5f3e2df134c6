"""Inputs of mixers whose channels are systems of their own: complex channels, and channels behind a gate."""

from typing import Any

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.shapes import Float, Inputs, Stream, Tensor
from lcsm.stages.activation import ELEMENTWISE
from lcsm.stages.base import Input
from lcsm.stages.settings import choose
from lcsm.structures import Context, widen


class BlockLinear(nn.Module):
    """A linear map whose matrix is block-diagonal, with a bias or none.

    Args:
        inputs, outputs: widths.
        blocks: number of blocks, which divides both; 1 for a full matrix.
        bias: whether there is one, started at zero.
        group: name of the setting's group, for messages.
    Raises:
        UsageError: the number of blocks does not divide the widths.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int, bias: bool, group: str) -> None:
        super().__init__()
        if blocks < 1 or inputs % blocks or outputs % blocks:
            raise UsageError(
                f"{group}.blocks={blocks} must divide {inputs} channels and {outputs} heads: choose a common divisor"
            )
        bound = (inputs // blocks) ** -0.5
        self.weight = nn.Parameter(torch.empty(blocks, outputs // blocks, inputs // blocks).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Stream) -> Float[Tensor, "B L Q"]:
        """Map x [B L inputs] to [B L outputs]."""
        blocks = x.unflatten(-1, (self.weight.shape[0], -1))
        mapped = torch.einsum("...bi,boi->...bo", blocks, self.weight).flatten(-2)
        return mapped if self.bias is None else mapped + self.bias


class ComplexProjection(Input):
    """A linear projection to complex channels, [B L H P]; even outputs are real parts, odd ones imaginary parts.

    Args:
        activation: applied to both parts, an elementwise one of `activation.ELEMENTWISE`.
        bias: whether the projection has one.
    Source: HGRN (2311.04823).
    """

    varies = "LHP"
    complex_values = True

    def __init__(self, input_dim: int, num_heads: int, value_dim: int, activation: str, bias: bool) -> None:
        super().__init__()
        self.sizes = (num_heads, value_dim, 2)
        self.activation = choose("input.activation", activation, ELEMENTWISE)
        self.projection = nn.Linear(input_dim, 2 * num_heads * value_dim, bias=bias)

    def forward(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Inputs, Any]:
        parts = widen(self.activation(self.projection(x))).unflatten(-1, self.sizes)
        return torch.view_as_complex(parts.contiguous()), past


class GatedChannels(Input):
    """The source behind a sigmoid gate, sigmoid(W x_t + b) * x_t: every channel is a system of its own.

    Args:
        blocks: number of diagonal blocks of W; 1 for a full matrix.
        bias: whether the gate has one.
    Raises:
        UsageError: num_heads * value_dim is not the number of channels, or blocks does not divide it.
    Source: RG-LRU (2402.19427).
    """

    varies = "LHP"

    def __init__(self, input_dim: int, num_heads: int, value_dim: int, blocks: int, bias: bool) -> None:
        super().__init__()
        if num_heads * value_dim != input_dim:
            raise UsageError(
                f"input=gated_channels needs one system per channel, but mixer.num_heads={num_heads} times "
                f"mixer.value_dim={value_dim} is not the {input_dim} channels:\n"
                f"set mixer.num_heads={input_dim} mixer.value_dim=1, or use input=linear"
            )
        self.sizes = (num_heads, value_dim)
        self.gate = BlockLinear(input_dim, input_dim, blocks, bias, "input")

    def forward(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Inputs, Any]:
        return (torch.sigmoid(self.gate(x)) * x).unflatten(-1, self.sizes), past
