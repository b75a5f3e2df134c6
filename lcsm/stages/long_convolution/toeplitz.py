"""The kernel of TNN: a small network of the relative position, under an exponential decay."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import Factor, Float, Tensor
from lcsm.stages.activation import ELEMENTWISE
from lcsm.stages.long_convolution.base import KernelShrink, rows
from lcsm.stages.settings import choose, positive
from lcsm.structures import widen


class RootMeanSquare(nn.Module):
    """x / (root mean square of x + epsilon), with or without a weight per channel; epsilon is outside the root."""

    def __init__(self, width: int, epsilon: float, weight: bool) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = mark(nn.Parameter(torch.ones(width)), group="kernel") if weight else None

    def forward(self, x: Float[Tensor, "T R"]) -> Float[Tensor, "T R"]:
        """Normalise the channels of every position."""
        x = x / (x.norm(dim=-1, keepdim=True) * x.shape[-1] ** -0.5 + self.epsilon)
        return x if self.weight is None else x * self.weight


def make_norm(kind: str, width: int, epsilon: float) -> nn.Module:
    """The norm `shrink.norm` over the channels of a position."""
    if choose("shrink.norm", kind, {"simple_rms": False, "rms": False, "layer": True}):
        return nn.LayerNorm(width, eps=epsilon)
    return RootMeanSquare(width, epsilon, kind == "rms")


class RelativePositionNetwork(nn.Module):
    """The network of the relative position, [T] to [T outputs].

        x = W p + b;   depth times x = W activation(norm(x)) + b (+ x);   W activation(norm(x)) + b

    Args:
        width: of the hidden layers, > 0.
        depth: number of hidden maps.
        outputs: channels that leave.
        activation, norm, epsilon, bias, residual: as in `ToeplitzKernel`.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        outputs: int,
        activation: str,
        norm: str,
        epsilon: float,
        bias: bool,
        residual: bool,
    ) -> None:
        super().__init__()
        self.activation, self.residual = choose("shrink.activation", activation, ELEMENTWISE), residual
        self.first = nn.Linear(1, width, bias=bias)
        self.norms = nn.ModuleList(make_norm(norm, width, epsilon) for _ in range(depth + 1))
        self.maps = nn.ModuleList(nn.Linear(width, width, bias=bias) for _ in range(depth))
        self.last = nn.Linear(width, outputs, bias=bias)
        for parameter in self.parameters():
            mark(parameter, no_decay=getattr(parameter, "_no_decay", False), group="kernel")

    def forward(self, positions: Float[Tensor, " T"]) -> Float[Tensor, "T Q"]:
        """The outputs at every position."""
        x = self.first(positions[:, None])
        for norm, linear in zip(self.norms, self.maps, strict=False):
            mapped = linear(self.activation(norm(x)))
            x = mapped + x if self.residual else mapped
        return self.last(self.activation(self.norms[-1](x)))


class ToeplitzKernel(KernelShrink):
    """Coefficients t_k from the relative position k, at any lag.

        t_k = effective_activation(gamma^|k| network(p(k))),   p(k) = k, k / divisor or exp(k / divisor)

    A tied second direction reads by the negative positions, t_-1, t_-2, ..., of the same network.

    Args:
        width: of the hidden layers of the network, > 0.
        depth: number of hidden maps; 0 leaves the first and the last one.
        activation: of the network, an elementwise one of `activation.ELEMENTWISE`.
        norm: before each activation: simple_rms (no weight), rms, layer.
        norm_epsilon: added to the root mean square, or to the variance under `layer`; > 0.
        bias: whether the maps have one.
        residual: whether a hidden map adds what it sees.
        positions: raw (par_type 1), scaled (2) or exponential (3, for one direction only).
        divisor: what scaled and exponential positions are divided by, > 0; the release takes the length of the call
            less one. A constant here, as a stream has no length. Null with raw positions.
        decay: none; fixed (gamma for all channels); learned (gamma + (1 - gamma) sigmoid(g), g normal, per channel).
        gamma: 0 < gamma <= 1; null without decay.
        effective_activation: applied to the coefficients after the decay.
    Raises:
        UsageError: an option is unknown, or a number is missing or out of range.
    Source: TNN (2305.04749) and the layer of Doraemonzzz/tnn-pytorch.
    """

    two_sided = True

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        width: int,
        depth: int,
        activation: str,
        norm: Literal["simple_rms", "rms", "layer"],
        norm_epsilon: float,
        bias: bool,
        residual: bool,
        positions: Literal["raw", "scaled", "exponential"],
        divisor: float | None,
        decay: Literal["none", "fixed", "learned"],
        gamma: float | None,
        effective_activation: str,
    ) -> None:
        super().__init__(num_heads, state_dim, value_dim, span=None)
        self.network = RelativePositionNetwork(
            int(positive("shrink.width", width)),
            depth,
            num_heads * value_dim,
            activation,
            norm,
            positive("shrink.norm_epsilon", norm_epsilon),
            bias,
            residual,
        )
        scaled = choose("shrink.positions", positions, {"raw": False, "scaled": True, "exponential": True})
        if scaled != (divisor is not None and divisor > 0):
            raise UsageError(
                f"shrink.divisor={divisor} does not go with shrink.positions={positions}: "
                "scaled and exponential need a positive number, raw needs null"
            )
        self.positions, self.divisor = positions, divisor
        self.decay = choose("shrink.decay", decay, {name: name for name in ("none", "fixed", "learned")})
        if (decay == "none") != (gamma is None) or not (gamma is None or 0 < gamma <= 1):
            raise UsageError(
                f"shrink.gamma={gamma} does not go with shrink.decay={decay}: "
                "a decay needs 0 < gamma <= 1, none needs null"
            )
        self.least = gamma
        if decay == "learned":
            self.logits = mark(nn.Parameter(torch.randn(num_heads, 1, value_dim)), group="kernel")
        self.effective_activation = choose("shrink.effective_activation", effective_activation, ELEMENTWISE)

    def coefficients(self, length: int) -> Float[Tensor, "H T P"]:
        return self.at(torch.arange(length, device=self.device))

    def opposite(self, shrink: Factor, length: int) -> Factor:
        if self.positions == "exponential":
            raise UsageError(
                "shrink.positions=exponential has no negative positions for mixer.reverse.shrink=tied: "
                "use raw or scaled, or mixer.reverse.shrink=own"
            )
        length = min(length, self.sizes[1])
        with torch.autocast(self.device.type, enabled=False):
            kernel = widen(self.at(-torch.arange(1, length + 1, device=self.device)))
        return rows(kernel, self.sizes[1])

    def at(self, lags: Tensor) -> Float[Tensor, "H T P"]:
        """The coefficients at some lags [T], which may be negative."""
        found = self.undecayed(lags)
        distance = lags.abs().to(found.dtype)[:, None]
        if self.decay == "learned":
            assert self.least is not None, "checked when built"
            found = found * (self.least + (1 - self.least) * torch.sigmoid(self.logits)) ** distance
        elif self.least is not None:
            found = found * self.least**distance
        return self.effective_activation(found)

    def undecayed(self, lags: Tensor) -> Float[Tensor, "H T P"]:
        """The network's values at some lags [T], before decay and activation."""
        positions = lags.to(self.network.first.weight.dtype)
        if self.divisor is not None:
            positions = positions / self.divisor
        if self.positions == "exponential":
            positions = positions.exp()
        return self.network(positions).unflatten(-1, (self.sizes[0], self.sizes[2])).transpose(0, 1)
