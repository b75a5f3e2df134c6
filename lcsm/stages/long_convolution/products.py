"""Inputs of mixers that multiply projections with convolutions of each other: Hyena and H3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from lcsm.errors import UsageError
from lcsm.ops.streaming.base import Place
from lcsm.shapes import Float, Inputs, Stream, Tensor
from lcsm.stages.base import READERS, Input, Source
from lcsm.stages.long_convolution.base import KernelShrink
from lcsm.stages.long_convolution.block import Past, ShiftBlock
from lcsm.stages.settings import positive
from lcsm.stages.short_convolution import ShortConvolution
from lcsm.structures import Context

# What a convolution keeps from call to call: of a `ShiftBlock`, or of the stream that replaces it.
Kept = Past | Place


class HyenaSource(Source):
    """All projections of a Hyena operator after one short convolution: x_0 for the gate, x_1 .. x_{order-1} and v.

    Every one is as wide as the heads together. The gate multiplies by x_0 as it is: set mixer.output.gate_rank=0.

    Args:
        order: number of products, >= 2.
        bias: whether the projection has one.
        kernel_size: number of taps of the convolution, which has a bias.
    Raises:
        UsageError: order is less than 2.
    Source: Hyena (2302.10866), HazyResearch/safari.
    """

    def __init__(self, d_model: int, num_heads: int, value_dim: int, order: int, bias: bool, kernel_size: int) -> None:
        super().__init__()
        if order < 2:
            raise UsageError(f"source.order={order} must be at least 2: one product is the gate, the others are long")
        width = num_heads * value_dim
        self.widths = dict.fromkeys(READERS, d_model) | {"gate": width, "input": order * width}
        self.projection = nn.Linear(d_model, (order + 1) * width, bias=bias)
        self.convolution = ShortConvolution((order + 1) * width, kernel_size, "identity")

    def forward(
        self, x: Stream, past: Any = None, context: Context | None = None
    ) -> tuple[dict[str, Float[Tensor, "B L W"]], Any]:
        mixed, past = self.convolution(self.projection(x), past, context)
        gate, rest = mixed.split([self.widths["gate"], self.widths["input"]], -1)
        return dict.fromkeys(READERS, x) | {"gate": gate, "input": rest}, past

    def state_size(self) -> int:
        return self.convolution.state_size()


class HyenaInput(Input):
    """The products and convolutions of a Hyena operator before its last convolution, which is the mixer's own.

        v = v x_{order-1};   for i = order - 2 .. 1:   v = convolution(v) x_i

    The source gives x_1 .. x_{order-1} and v, so that its width says what the order is.

    Args:
        shrink: settings of the kernel of each further convolution, which sees state_dim lags as the mixer's does.
    Raises:
        UsageError: the source does not give whole multiples of the heads' width.
    Source: Hyena (2302.10866).
    """

    varies = "LHP"

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        shrink: Callable[..., KernelShrink],
    ) -> None:
        super().__init__()
        order, rest = divmod(input_dim, num_heads * value_dim)
        if rest or order < 2:
            raise UsageError(
                f"input=hyena splits {input_dim} channels into parts of mixer.num_heads={num_heads} times "
                f"mixer.value_dim={value_dim}, at least two:\nuse source=hyena"
            )
        self.parts = (order, num_heads, value_dim)
        self.blocks = nn.ModuleList(ShiftBlock(shrink(), state_dim) for _ in range(order - 2))

    def forward(
        self, x: Stream, past: list[Kept] | None = None, context: Context | None = None
    ) -> tuple[Inputs, list[Kept]]:
        *factors, value = x.unflatten(-1, self.parts).unbind(2)
        value, kept = value * factors.pop(), []
        for index, block in enumerate(self.blocks):
            value, after = block(value, None if past is None else past[index], context)
            value = value * factors.pop()
            kept.append(after)
        return value, kept

    def memory_flops(self) -> int:
        return sum(block.memory_flops() for block in self.blocks if isinstance(block, ShiftBlock))

    def state_size(self) -> int:
        return sum(block.state_size() for block in self.blocks if isinstance(block, ShiftBlock))


class ShiftedProduct(Input):
    """A value times a key that has passed a convolution of a few lags.

        input_t = convolution(W_k x + b)_t (W_v x_t + b)

    Args:
        bias: whether the projections have one.
        lags: inputs that the memory of keys holds, > 0.
        shrink: settings of the kernel.
    Source: H3 (2212.14052), whose kernel has as many taps as the state that follows has numbers.
    """

    varies = "LHP"

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        value_dim: int,
        bias: bool,
        lags: int,
        shrink: Callable[..., KernelShrink],
    ) -> None:
        super().__init__()
        self.sizes, width = (num_heads, value_dim), num_heads * value_dim
        self.project_key = nn.Linear(input_dim, width, bias=bias)
        self.project_value = nn.Linear(input_dim, width, bias=bias)
        self.block = ShiftBlock(shrink(), int(positive("input.lags", lags)))

    def forward(self, x: Stream, past: Kept | None = None, context: Context | None = None) -> tuple[Inputs, Kept]:
        key, value = (projection(x).unflatten(-1, self.sizes) for projection in (self.project_key, self.project_value))
        key, past = self.block(key, past, context)
        return key * value, past

    def memory_flops(self) -> int:
        return self.block.memory_flops()

    def state_size(self) -> int:
        return self.block.state_size()
