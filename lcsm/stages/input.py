"""Inputs: values that are written into the memory."""

from typing import Any

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.shapes import Inputs, Stream, Tensor
from lcsm.stages.activation import ELEMENTWISE
from lcsm.stages.base import Input
from lcsm.stages.settings import choose
from lcsm.stages.short_convolution import ShortConvolution
from lcsm.structures import Context


class Projection(Input):
    """A linear projection, activation(convolution(W x_t + b)), [B L H P].

    Args:
        activation: applied to the projection, an elementwise one of `activation.ELEMENTWISE`.
        bias: whether the projection has one.
        kernel_size: taps of a short convolution of the projection, before the activation; null for none.
    Source: EOS; the release has no activation here (identity). The convolution is that of Mamba-2 (2405.21060).
    """

    varies = "LHP"

    def __init__(
        self, input_dim: int, num_heads: int, value_dim: int, activation: str, bias: bool, kernel_size: int | None
    ) -> None:
        super().__init__()
        self.sizes = (num_heads, value_dim)
        self.activation = choose("input.activation", activation, ELEMENTWISE)
        self.projection = nn.Linear(input_dim, num_heads * value_dim, bias=bias)
        self.convolution: ShortConvolution | None = None
        if kernel_size is not None:
            self.convolution = ShortConvolution(num_heads * value_dim, kernel_size, "identity")

    def forward(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Inputs, Any]:
        value = self.projection(x)
        if self.convolution is not None:
            value, past = self.convolution(value, past, context)
        return self.activation(value).unflatten(-1, self.sizes), past

    def state_size(self) -> int:
        return 0 if self.convolution is None else self.convolution.state_size()


class PerChannel(Input):
    """The source unchanged: every channel is a system of its own, [B L H P] with H = channels and P = 1.

    Raises:
        UsageError: num_heads * value_dim is not the number of channels.
    """

    varies = "LHP"

    def __init__(self, input_dim: int, num_heads: int, value_dim: int) -> None:
        super().__init__()
        if num_heads * value_dim != input_dim:
            raise UsageError(
                f"input=per_channel needs one system per channel, but mixer.num_heads={num_heads} times "
                f"mixer.value_dim={value_dim} is not the {input_dim} channels:\n"
                f"set mixer.num_heads={input_dim} mixer.value_dim=1, or use input=linear"
            )
        self.sizes = (num_heads, value_dim)

    def forward(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Inputs, Any]:
        return x.unflatten(-1, self.sizes), past


class Repeated(Input):
    """The source unchanged and the same for every head: each head filters all channels, [B L H P].

    Raises:
        UsageError: value_dim is not the number of channels.
    Source: the channels of S4 and SGConv, "copies" of every feature.
    """

    varies = "LHP"

    def __init__(self, input_dim: int, num_heads: int, value_dim: int) -> None:
        super().__init__()
        if value_dim != input_dim:
            raise UsageError(
                f"input=repeated gives every head all {input_dim} channels, but mixer.value_dim={value_dim}: "
                f"set mixer.value_dim={input_dim}, or use input=per_channel"
            )
        self.num_heads = num_heads

    def forward(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Inputs, Any]:
        return x[:, :, None].expand(-1, -1, self.num_heads, -1), past


class OnesInput(Input):
    """One, [1 1 1 1]: the expand alone is what is written, as in a multiple-input system with one column.

    Raises:
        UsageError: value_dim is not 1; further columns would all be the same.
    """

    varies = ""
    one: Tensor

    def __init__(self, value_dim: int) -> None:
        super().__init__()
        if value_dim != 1:
            raise UsageError(
                f"input=ones writes the same into every column, so mixer.value_dim={value_dim} must be 1:\n"
                "set mixer.value_dim=1, or use input=linear"
            )
        self.register_buffer("one", torch.ones(1, 1, 1, 1), persistent=False)

    def forward(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Inputs, Any]:
        return self.one, past
