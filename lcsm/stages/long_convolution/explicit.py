"""A kernel whose every tap is a parameter: LongConv, and the shift system of H3."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import Float, Tensor
from lcsm.stages.long_convolution.base import KernelShrink
from lcsm.stages.settings import choose, positive
from lcsm.structures import widen


class ExplicitKernel(KernelShrink):
    """Free taps, smoothed and squashed.

        kernel = sign(k) max(|k| - squash, 0),   k = smooth(taps)

    Args:
        span: number of taps per channel; the kernel is zero beyond.
        init: normal, or double_exp: normal times exp(-(j / span) (C // 2)^(c / C)) in channel c of C, along P, or along
            the heads where P = 1.
        std: standard deviation of the normal numbers.
        smooth: none; time (mean of a window, zero beyond the ends); frequency (Gaussian weights over a window of the
            spectrum, which do not sum to one).
        window: odd number of lags or frequencies of that window; null without smoothing.
        squash: what is taken from the modulus of every tap, >= 0.
        dropout: probability of dropping a tap while training.
    Raises:
        UsageError: an option is unknown or out of range, or the squash leaves nothing of the kernel, which then would
            never learn.
    Source: LongConv (2302.06646), HazyResearch/safari; the shift system of H3 (2212.14052) has 64 normal taps.
    """

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        span: int,
        init: Literal["normal", "double_exp"],
        std: float,
        smooth: Literal["none", "time", "frequency"],
        window: int | None,
        squash: float,
        dropout: float,
    ) -> None:
        super().__init__(num_heads, state_dim, value_dim, span)
        smoother = choose("shrink.smooth", smooth, {"none": None, "time": smooth_time, "frequency": smooth_frequency})
        if (smoother is None) != (window is None) or (window is not None and (window < 1 or window % 2 == 0)):
            raise UsageError(
                f"shrink.window={window} does not go with shrink.smooth={smooth}: "
                "smoothing needs an odd number, none needs null"
            )
        self.smooth, self.window = smoother, window or 0
        taps = positive("shrink.std", std) * torch.randn(num_heads, span, value_dim)
        if choose("shrink.init", init, {"normal": False, "double_exp": True}):
            taps = taps * double_exponential(num_heads, span, value_dim)
        self.taps = mark(nn.Parameter(taps), no_decay=False, group="kernel")
        self.squash = squash
        self.dropout = nn.Dropout(dropout)
        if squash < 0 or (not taps.is_meta and not bool(self.coefficients(span).any())):
            raise UsageError(
                f"shrink.squash={squash} leaves nothing of taps of size {std}, which would never learn: "
                "choose a number between 0 and shrink.std"
            )

    def coefficients(self, length: int) -> Float[Tensor, "H T P"]:
        taps = widen(self.taps)
        if self.smooth is not None:
            taps = self.smooth(taps, self.window)
        taps = taps[:, :length]
        return taps if self.squash == 0 else F.softshrink(taps, self.squash)

    def sample(self, length: int) -> Float[Tensor, "H T P"]:
        return self.dropout(self.kernel(length))


def double_exponential(num_heads: int, span: int, value_dim: int) -> Tensor:
    """Decays whose rates grow exponentially with the channel, [1 T P], or [H T 1] where P = 1."""
    channels = value_dim if value_dim > 1 else num_heads
    rates = float(channels // 2) ** (torch.arange(channels) / channels)
    decays = (-torch.arange(span)[:, None] / span * rates).exp()
    return decays[None] if value_dim > 1 else decays.T[:, :, None]


def smooth_time(taps: Float[Tensor, "H T P"], window: int) -> Float[Tensor, "H T P"]:
    """The mean over a window around every lag; lags beyond the ends count as zeros."""
    return F.avg_pool1d(taps.transpose(1, 2), window, 1, window // 2).transpose(1, 2)


def smooth_frequency(taps: Float[Tensor, "H T P"], window: int) -> Float[Tensor, "H T P"]:
    """Every frequency with its neighbours, weighed by exp(-distance^2 / 2)."""
    distance = torch.arange(window, device=taps.device, dtype=taps.dtype) - window // 2
    weights = (-0.5 * distance.square()).exp()
    spectrum = torch.fft.rfft(taps, dim=1).transpose(1, 2)
    parts = torch.stack([spectrum.real, spectrum.imag])
    mixed = F.conv1d(parts.flatten(0, 2)[:, None], weights[None, None], padding=window // 2).view(parts.shape)
    return torch.fft.irfft(torch.complex(mixed[0], mixed[1]).transpose(1, 2), n=taps.shape[1], dim=1)
