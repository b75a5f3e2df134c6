"""The kernels of Hyena: a network of sines of the position under an exponential window."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import Float, Tensor
from lcsm.stages.long_convolution.base import KernelShrink
from lcsm.stages.settings import positive


class SineFilter(nn.Module):
    """A network of sines of the position, faded by an exponential window, [T] to [T filters channels].

        h_t = W sin(f (... sin(f (W z_t + b)))),   times exp(-t / (span - 1) rate_c) + shift

    with z_t = [t / (span - 1), cos(w_b t), -sin(w_b t)], trained as it is.

    Attributes:
        taken: filters that a kernel reads already.
    Args:
        filters: how many share the hidden maps.
        channels: outputs of each.
        span, embedding_dim, width, depth, frequency, window, window_range, window_target, shift, normalised: as in
            `HyenaKernel`.
    """

    rates: Tensor
    times: Tensor

    def __init__(
        self,
        filters: int,
        channels: int,
        span: int,
        embedding_dim: int,
        width: int,
        depth: int,
        frequency: float,
        window: bool,
        window_range: list[float],
        window_target: float,
        shift: float,
        normalised: bool,
    ) -> None:
        super().__init__()
        if embedding_dim < 3 or embedding_dim % 2 == 0:
            raise UsageError(
                f"shrink.embedding_dim={embedding_dim} must be odd and at least 3: the time, and cosine and sine of "
                "each frequency"
            )
        self.sizes, self.taken = (filters, channels), 0
        self.window, self.shift, self.normalised = window, shift, normalised
        sizes = [embedding_dim, *[width] * (depth + 1)]
        self.maps = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.last = nn.Linear(width, filters * channels, bias=False)
        self.frequency = nn.Parameter(torch.full((width,), float(positive("shrink.frequency", frequency))))
        for parameter in self.parameters():
            mark(parameter, group="kernel")
        times = torch.linspace(0, 1, span)
        self.positions = mark(nn.Parameter(embedding(times, embedding_dim)), group="positions")
        self.register_buffer("times", times[:, None], persistent=False)
        slow, fast = (abs(math.log(window_target)) / share for share in window_range)
        self.register_buffer("rates", torch.linspace(slow, fast, filters * channels), persistent=False)

    def forward(self, length: int) -> Float[Tensor, "T F C"]:
        """All filters at lags 0 .. length - 1."""
        x = self.positions[:length]
        for linear in self.maps:
            x = torch.sin(self.frequency * linear(x))
        x = self.last(x)
        if self.window:
            x = x * ((-self.times[:length] * self.rates).exp() + self.shift)
        if self.normalised:
            x = x / x.norm(p=1, dim=-1, keepdim=True)
        return x.unflatten(-1, self.sizes)


def embedding(times: Float[Tensor, " T"], size: int) -> Float[Tensor, "T E"]:
    """The time, and cosine and negative sine of 2 pi f t / T for frequencies f between 0 and their number less one."""
    bands = (size - 1) // 2
    angles = torch.arange(len(times))[:, None] * torch.linspace(1e-4, bands - 1, bands) * (2 * math.pi / len(times))
    return torch.cat([times[:, None], angles.cos(), -angles.sin()], 1)


class HyenaKernel(KernelShrink):
    """One of the filters of a Hyena operator; those of a layer share their hidden maps.

    Args:
        order: of the operator, >= 2: the layer has order - 1 convolutions.
        span: lags over which the filters are defined (l_max); zero beyond.
        embedding_dim: size of the embedding of the position: odd, 3 or more.
        width: of the hidden layers.
        depth: hidden maps after the first one.
        frequency: start of the factor inside the sines, one per hidden channel, which all layers of sines share.
        window: whether the filter fades exponentially.
        window_range: shares of the span after which the slowest and the fastest channel have faded to window_target.
        window_target: > 0, < 1.
        shift: added to the window.
        normalised: whether the coefficients of each lag, over all channels and filters, are divided by the sum of
            their moduli.
    Raises:
        UsageError: a number is out of range.
    Source: Hyena (2302.10866), HazyResearch/safari; its order 2 has one long convolution, where the paper counts two.
    """

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        layer: int,
        common: dict[tuple[Any, ...], nn.Module],
        order: int,
        span: int,
        embedding_dim: int,
        width: int,
        depth: int,
        frequency: float,
        window: bool,
        window_range: list[float],
        window_target: float,
        shift: float,
        normalised: bool,
    ) -> None:
        super().__init__(num_heads, state_dim, value_dim, span)
        if order < 2:
            raise UsageError(f"shrink.order={order} must be at least 2: choose source.order=2")
        if not 0 < window_target < 1:
            raise UsageError(f"shrink.window_target={window_target} must lie between 0 and 1")
        # the convolutions of a layer take the filters one after the other; a second direction begins anew
        shared = common.get(("hyena", layer))
        if not isinstance(shared, SineFilter) or shared.taken == order - 1:
            shared = SineFilter(
                order - 1,
                num_heads * value_dim,
                int(positive("shrink.span", span)),
                embedding_dim,
                width,
                depth,
                frequency,
                window,
                window_range,
                window_target,
                shift,
                normalised,
            )
            common["hyena", layer] = shared
        self.index, self.filter = shared.taken, shared
        shared.taken += 1

    def coefficients(self, length: int) -> Float[Tensor, "H T P"]:
        return self.filter(length)[:, self.index].unflatten(-1, (self.sizes[0], self.sizes[2])).transpose(0, 1)
