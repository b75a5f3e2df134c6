"""A short causal depthwise convolution with a streaming state and document boundaries."""

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.shapes import Float, Resets, Stream, Tensor
from lcsm.stages.activation import ELEMENTWISE
from lcsm.stages.segments import resets_of
from lcsm.stages.settings import choose, positive
from lcsm.structures import Context

# The last kernel_size - 1 inputs, zero where they belong to another document than the last one.
Tail = Float[Tensor, "B T D"]


class ShortConvolution(nn.Module):
    """Mix every channel with its own last few values.

        y_t[d] = activation(bias[d] + sum_k weight[k, d] x_{t-k}[d]),   k = 0 .. kernel_size - 1

    A tap that reaches into another document, or before the start, reads zero.

    Args:
        channels: number of channels, D.
        kernel_size: number of taps, > 0.
        activation: an elementwise one of `activation.ELEMENTWISE`.
        bias: whether every channel adds one.
    Source: Mamba (2312.00752), where it has 4 taps, a bias and SiLU.
    """

    def __init__(self, channels: int, kernel_size: int, activation: str, bias: bool = True) -> None:
        super().__init__()
        self.kernel_size = int(positive("kernel_size", kernel_size))
        self.activation = choose("activation", activation, ELEMENTWISE)
        bound = self.kernel_size**-0.5
        self.weight = nn.Parameter(torch.empty(self.kernel_size, channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Stream, past: Tail | None = None, context: Context | None = None) -> tuple[Stream, Tail]:
        """Convolve x [B L D]; `past` is what the last call returned, None at the start."""
        reach, length = self.kernel_size - 1, x.shape[1]
        tail = past if past is not None else x.new_zeros(x.shape[0], reach, x.shape[2])
        known, resets = torch.cat([tail.to(x.dtype), x], 1), resets_of(context)
        if resets is not None:
            return self._within_documents(known, resets)
        mixed = F.conv1d(known.transpose(1, 2), self.weight.flip(0).t()[:, None], self.bias, groups=x.shape[2])
        return self.activation(mixed.transpose(1, 2)), known[:, length:]

    def state_size(self) -> int:
        """Real numbers that one sequence carries from call to call."""
        return self.weight[1:].numel()

    def _within_documents(self, known: Float[Tensor, "B K D"], resets: Resets) -> tuple[Stream, Tail]:
        """The convolution of the last L of K = T + L steps, with taps in other documents masked."""
        reach, length = self.kernel_size - 1, resets.shape[1]
        document = F.pad(resets.cumsum(1), (reach, 0))[..., None]
        mixed = self.weight[0] * known[:, reach:]
        if self.bias is not None:
            mixed = mixed + self.bias
        for lag in range(1, self.kernel_size):
            window = slice(reach - lag, reach - lag + length)
            same = document[:, window] == document[:, reach:]
            mixed = mixed + self.weight[lag] * known[:, window].masked_fill(~same, 0)
        return self.activation(mixed), known[:, length:].masked_fill(document[:, length:] != document[:, -1:], 0)
