"""A causal depthwise convolution of a few taps that streams and knows documents."""

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.parameters import mark
from lcsm.shapes import Float, Int, Stream, Tensor
from lcsm.stages.activation import ELEMENTWISE
from lcsm.stages.segments import segments_of, starts
from lcsm.stages.settings import choose, positive
from lcsm.structures import Context

# The last kernel_size - 1 inputs [B K-1 D] and their document ids [B K-1], None where no call had ids.
Tail = tuple[Tensor, Int[Tensor, "B K"] | None]


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
        self.weight = mark(nn.Parameter(torch.empty(self.kernel_size, channels).uniform_(-bound, bound)))
        self.bias = mark(nn.Parameter(torch.empty(channels).uniform_(-bound, bound))) if bias else None

    def forward(self, x: Stream, past: Tail | None = None, context: Context | None = None) -> tuple[Stream, Tail]:
        """Convolve x [B L D]; `past` is what the last call returned, None at the start."""
        reach, length = self.kernel_size - 1, x.shape[1]
        tail, tail_ids = past if past is not None else (x.new_zeros(x.shape[0], reach, x.shape[2]), None)
        known = torch.cat([tail.to(x.dtype), x], 1)
        ids = segments_of(context, None if tail_ids is None or reach == 0 else tail_ids[:, -1], length)
        if ids is not None:
            before = ids[:, :1].expand(-1, reach) if tail_ids is None else tail_ids
            ids = torch.cat([before, ids], 1)
            mixed = self._within_documents(known, ids, length)
        else:
            mixed = F.conv1d(known.transpose(1, 2), self.weight.flip(0).t()[:, None], self.bias, groups=x.shape[2])
            mixed = mixed.transpose(1, 2)
        return self.activation(mixed), (known[:, length:], None if ids is None else ids[:, length:])

    def past_numbers(self) -> int:
        """Real numbers that one sequence carries from call to call."""
        return self.weight[1:].numel()

    def _within_documents(self, known: Float[Tensor, "B T D"], ids: Int[Tensor, "B T"], length: int) -> Stream:
        """The convolution of the last `length` steps, with taps in other documents masked."""
        reach = self.kernel_size - 1
        # ids may come back later in the row: the running count of changes does not
        document = starts(ids).cumsum(1)[..., None]
        mixed = self.weight[0] * known[:, reach:]
        if self.bias is not None:
            mixed = mixed + self.bias
        for lag in range(1, self.kernel_size):
            window = slice(reach - lag, reach - lag + length)
            same = document[:, window] == document[:, reach:]
            mixed = mixed + self.weight[lag] * known[:, window].masked_fill(~same, 0)
        return mixed
