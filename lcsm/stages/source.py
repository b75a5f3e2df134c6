"""Sources: the streams that input, expand, oscillation, shrink and gate read."""

from typing import Any

from torch import nn

from lcsm.shapes import Float, Stream, Tensor
from lcsm.stages.base import READERS, Source
from lcsm.stages.short_convolution import ShortConvolution
from lcsm.structures import Context

# Those that make the memory and its reading; the gate and the skip connection are outside.
MEMORY_READERS = ("input", "expand", "oscillation", "shrink")


class Plain(Source):
    """Every reader sees the mixer's input, [B L D]."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.widths = dict.fromkeys(READERS, d_model)

    def forward(
        self, x: Stream, past: Any = None, context: Context | None = None
    ) -> tuple[dict[str, Float[Tensor, "B L W"]], Any]:
        return dict.fromkeys(READERS, x), past


class Convolved(Source):
    """Input, expand, oscillation and shrink see the input after one short convolution; gate and skip see the input.

    Args:
        kernel_size: number of taps of the convolution.
        activation: applied after the convolution, an elementwise one of `activation.ELEMENTWISE`.
    Source: Mamba (2312.00752), without its projection before the convolution.
    """

    def __init__(self, d_model: int, kernel_size: int, activation: str) -> None:
        super().__init__()
        self.widths = dict.fromkeys(READERS, d_model)
        self.convolution = ShortConvolution(d_model, kernel_size, activation)

    def forward(
        self, x: Stream, past: Any = None, context: Context | None = None
    ) -> tuple[dict[str, Float[Tensor, "B L W"]], Any]:
        mixed, past = self.convolution(x, past, context)
        return {reader: mixed if reader in MEMORY_READERS else x for reader in READERS}, past

    def state_size(self) -> int:
        return self.convolution.state_size()


class Projected(Source):
    """Input, expand, oscillation and shrink see a projection after one short convolution; gate and skip see the input.

        activation(convolution(W x_t + b))

    Args:
        width: channels of the projection, > 0.
        bias: whether the projection has one.
        kernel_size: number of taps of the convolution.
        activation: applied after the convolution, an elementwise one of `activation.ELEMENTWISE`.
    Source: Mamba (2312.00752); Griffin (2402.19427), with bias and without activation.
    """

    def __init__(self, d_model: int, width: int, bias: bool, kernel_size: int, activation: str) -> None:
        super().__init__()
        self.widths = {reader: width if reader in MEMORY_READERS else d_model for reader in READERS}
        self.projection = nn.Linear(d_model, width, bias=bias)
        self.convolution = ShortConvolution(width, kernel_size, activation)

    def forward(
        self, x: Stream, past: Any = None, context: Context | None = None
    ) -> tuple[dict[str, Float[Tensor, "B L W"]], Any]:
        mixed, past = self.convolution(self.projection(x), past, context)
        return {reader: mixed if reader in MEMORY_READERS else x for reader in READERS}, past

    def state_size(self) -> int:
        return self.convolution.state_size()
