"""DSS: diagonal state spaces that all channels share, read by complex weights of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from lcsm.shapes import Stream, Tensor, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.settings import choose, positive
from lcsm.stages.state_space import hippo
from lcsm.stages.state_space.discretisation import (
    exponential_minus_one,
    log_uniform_steps,
)
from lcsm.stages.state_space.modes import trained
from lcsm.stages.state_space.spectrum import PartMap, imaginary_map, real_map, same, stable_map
from lcsm.structures import Context, Diagonal, Growing, widen

# What is trained at first, so that its map gives the wanted imaginary part.
STARTS: dict[str, Callable[[Tensor], Tensor]] = {"identity": same, "exp": torch.log}


class SharedModes(Oscillation):
    """The rates that all channels share, and the step sizes of each channel.

    Args:
        real: map of the real parts.
        imaginary: map of the imaginary parts: identity, or exp.
        separate_steps: steps of their own for the real and the imaginary part.
        step_range: smallest and largest step size at first, log-uniform between.
    """

    decay = "HN"
    phase = "HN"
    gain: str | None = "HN"

    def __init__(
        self,
        real: PartMap,
        num_heads: int,
        state_dim: int,
        imaginary: str,
        separate_steps: bool,
        step_range: list[float],
    ) -> None:
        super().__init__()
        self.real_map, self.imaginary_map = real, imaginary_map(imaginary)
        start = choose("oscillation.imaginary", imaginary, STARTS)
        rates = hippo.modes("legs", 2 * state_dim, pairs=True).eigenvalues.conj()
        self.real, self.imaginary = trained(real.start(rates.real)), trained(start(rates.imag))
        self.log_step = trained(log_uniform_steps((num_heads, 2 if separate_steps else 1), step_range))

    def rates(self) -> tuple[Tensor, Tensor, Tensor]:
        """Real and imaginary part of rate * step, [1 1 H N 1], and the complex rates, [1 1 1 N 1]."""
        real, imaginary = self.real_map.value(widen(self.real)), self.imaginary_map(widen(self.imaginary))
        step = widen(self.log_step).exp()[None, None, :, :, None]
        rates = torch.complex(real, imaginary)[None, None, None, :, None]
        return rates.real * step[..., :1, :], rates.imag * step[..., -1:, :], rates


class Dss(SharedModes):
    """Modes whose rates all channels share; each channel has its own step size.

    Args:
        real: map that keeps real parts negative: exp, clip, softplus, sigmoid or gaussian.
        imaginary, separate_steps, step_range: as in `SharedModes`.
        scale: whether the gain is that of the zero-order hold, or 1 (impulses).
    Returns:
        Diagonal with log-decays, phases and gain [1 1 H N 1].
    Source: DSS (2203.14343), DSS-exp; the maps and the unscaled form are those of its code. The modes start at the
        upper half of the eigenvalues of the normal part of HiPPO-LegS; no factor 2 of conjugate pairs.
    """

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        real: Literal["exp", "clip", "softplus", "sigmoid", "gaussian"],
        imaginary: Literal["identity", "exp"],
        separate_steps: bool,
        step_range: list[float],
        scale: bool,
    ) -> None:
        super().__init__(stable_map(real), num_heads, state_dim, imaginary, separate_steps, step_range)
        self.scale = scale
        if not scale:
            self.gain = None

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        log_decay, phase, rates = self.rates()
        gain = exponential_minus_one(log_decay, phase) / rates if self.scale else None
        return Diagonal(log_decay=log_decay, phase=phase, gain=gain), past


class DssSoftmax(SharedModes):
    """The modes of DSS-softmax: what a mode reads is weighted by a softmax over the lags of a fixed length T.

        kernel[l] = Re(W exp(z l) / (rate sum_{r < T} exp(z r))),   z = rate step

    Modes with positive real parts grow, towards the oldest input that they see. Only the kernel can be formed for them,
    shifted by exp(z (T - 1)): no recurrence, hence no step, and nothing is read at lags of T and beyond.

    Args:
        real: free (modes may grow, as published), or a map that keeps real parts negative: exp, clip.
        length: T, in tokens.
        epsilon: added to the squared modulus of what is divided by, > 0.
        imaginary, separate_steps, step_range: as in `SharedModes`.
    Returns:
        Growing where real=free, otherwise Diagonal, with log-decays, phases and gain [1 1 H N 1].
    Source: DSS (2203.14343), equation 8 and appendix A; there T is the length of each sequence.
    """

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        real: Literal["free", "exp", "clip"],
        imaginary: Literal["identity", "exp"],
        separate_steps: bool,
        step_range: list[float],
        length: int,
        epsilon: float,
    ) -> None:
        super().__init__(real_map(real), num_heads, state_dim, imaginary, separate_steps, step_range)
        self.growing = real == "free"
        self.length, self.epsilon = (
            int(positive("oscillation.length", length)),
            positive("oscillation.epsilon", epsilon),
        )

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal | Growing, Any]:
        log_decay, phase, rates = self.rates()
        grows = (log_decay > 0).to(log_decay.dtype)
        mirrored, turned = (part * (1 - 2 * grows) for part in (log_decay, phase))
        total = exponential_minus_one(mirrored * self.length, turned * self.length) * rates
        weight = exponential_minus_one(mirrored, turned) * total.conj() / (total.abs().square() + self.epsilon)
        if not self.growing:
            return Diagonal(log_decay=log_decay, phase=phase, gain=weight), past
        span = log_decay.new_full((1, 1, 1, 1, 1), self.length)
        return Growing(log_decay=log_decay, phase=phase, gain=weight, span=span), past
