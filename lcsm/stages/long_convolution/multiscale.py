"""The kernel of SGConv: a few learned taps per scale, stretched to windows of doubling length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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


class MultiscaleKernel(KernelShrink):
    """Sub-kernels of `taps` numbers, stretched by powers of two and weighed down with the lag.

        cat: piece i is stretched by 2^(max(0, i - 1) + first_scale), and the pieces follow each other
        sum: piece i is stretched by 2^(i + first_scale), and the pieces are added from lag 0 on

    With S pieces both span taps 2^(S - 1 + first_scale) lags, at least `length`; what is beyond is zero.

    Args:
        length: lags that the pieces must cover, > 0; the training length (l_max).
        taps: learned numbers per piece and channel, > 0.
        num_scales: S; null for 1 + ceil(log2(length / taps)) - first_scale.
        first_scale: the power of two by which the first piece is already stretched.
        combine: cat or sum.
        interpolation: linear (between the centres of the stretched taps, constant at the ends) or nearest.
        init: normal, or cosine (channel i starts as i periods of a cosine, channels shuffled).
        decay: scale: piece i weighs alpha^(S - 1 - i), with alpha spread over the channels; power: lag t weighs
            (1 + t)^-p, with p uniform per channel and never trained; power_learned: the same, trained.
        decay_range: lowest and highest alpha or p.
        norm: what the kernel is divided by, per head and channel. initial: its l2 norm over the whole span as it was
            when the model was built, kept in checkpoints; current: that of the present parameters; none.
    Raises:
        UsageError: an option is unknown, a number is out of range, or no scale is left.
    Source: SGConv (2210.09298), ctlllll/SGConv. There the norm is taken at the first call instead.
    """

    alpha: Tensor
    power: Tensor
    norm: Tensor

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        length: int,
        taps: int,
        num_scales: int | None,
        first_scale: int,
        combine: Literal["cat", "sum"],
        interpolation: Literal["linear", "nearest"],
        init: Literal["normal", "cosine"],
        decay: Literal["scale", "power", "power_learned"],
        decay_range: list[float],
        norm: Literal["initial", "current", "none"],
    ) -> None:
        taps, length = int(positive("shrink.taps", taps)), int(positive("shrink.length", length))
        count = num_scales or 1 + max(0, math.ceil(math.log2(length / taps))) - first_scale
        if count < 1 or first_scale < 0:
            raise UsageError(
                f"shrink.first_scale={first_scale} with shrink.taps={taps} leaves {count} scales for "
                f"shrink.length={length}: choose a smaller scale >= 0, or fewer taps"
            )
        super().__init__(num_heads, state_dim, value_dim, span=taps * 2 ** (count - 1 + first_scale))
        joined = choose("shrink.combine", combine, {"cat": True, "sum": False})
        self.joined = joined
        self.factors = [2 ** ((max(0, i - 1) if joined else i) + first_scale) for i in range(count)]
        self.interpolation = choose("shrink.interpolation", interpolation, {"linear": "linear", "nearest": "nearest"})
        starts: dict[str, Callable[..., Tensor]] = {"normal": torch.randn, "cosine": cosines}
        start = choose("shrink.init", init, starts)
        self.pieces = mark(nn.Parameter(start(count, num_heads, value_dim, taps)), no_decay=False, group="kernel")
        low, high = decay_range
        self.decay = choose("shrink.decay", decay, {name: name for name in ("scale", "power", "power_learned")})
        if decay == "scale":
            self.register_buffer("alpha", torch.linspace(low, high, value_dim), persistent=False)
        elif decay == "power":
            self.register_buffer("power", low + (high - low) * torch.rand(value_dim))
        else:
            self.power = mark(nn.Parameter(low + (high - low) * torch.rand(value_dim)), group="kernel")
        self.policy = choose("shrink.norm", norm, {name: name for name in ("initial", "current", "none")})
        if self.policy == "initial":
            self.register_buffer("norm", self.whole_norm().detach())

    def coefficients(self, length: int) -> Float[Tensor, "H T P"]:
        kernel = self.stretched(length)
        if self.policy == "none":
            return kernel
        return kernel / (self.norm if self.policy == "initial" else self.whole_norm())

    def whole_norm(self) -> Float[Tensor, "H 1 P"]:
        """The l2 norm of the kernel over its whole span."""
        assert self.span is not None, "set when built"
        return self.stretched(self.span).norm(dim=1, keepdim=True)

    def stretched(self, length: int) -> Float[Tensor, "H T P"]:
        """The weighed pieces up to a lag, before the norm."""
        found = list(self._pieces(length))
        if self.joined:
            kernel = torch.cat(found, -1)
        else:
            kernel = torch.stack([F.pad(piece, (0, length - piece.shape[-1])) for piece in found]).sum(0)
        kernel = kernel.transpose(1, 2)
        if self.decay == "scale":
            return kernel
        lags = torch.arange(1, length + 1, device=kernel.device, dtype=kernel.dtype)[:, None]
        return kernel * lags ** -widen(self.power)

    def _pieces(self, length: int) -> Iterator[Float[Tensor, "H P S"]]:
        """The pieces, cut to what the first `length` lags see of them."""
        offset, count, taps = 0, len(self.factors), self.pieces.shape[-1]
        for index, factor in enumerate(self.factors):
            room = length - offset
            if room <= 0:
                return
            # one tap more than seen, as the last one is interpolated towards the next
            seen = widen(self.pieces[index, ..., : min(taps, -(-room // factor) + 1)])
            if self.decay == "scale":
                seen = seen * (self.alpha ** (count - 1 - index))[:, None]
            yield F.interpolate(seen, scale_factor=factor, mode=self.interpolation)[..., :room]
            if self.joined:
                offset += factor * taps


def cosines(count: int, num_heads: int, value_dim: int, taps: int) -> Tensor:
    """Cosines with as many periods as the channel's number, [count H P taps], the channels of each piece shuffled."""
    phase = torch.linspace(0, 2 * math.pi, taps)
    rows = (torch.arange(value_dim)[:, None] * phase).cos()
    return torch.stack([rows[torch.randperm(value_dim)] for _ in range(count)])[:, None].repeat(1, num_heads, 1, 1)
