"""The result of a conversion: per channel a linear system of a few exact taps and complex modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from lcsm.ops.convolution.vandermonde import ConstantModes, evaluate
from lcsm.ops.streaming.modes import ModalConvolver
from lcsm.shapes import Complex, Float, Int, Tensor
from lcsm.structures import LOG_DECAY_FLOOR


@dataclass(frozen=True)
class ModalSystem:
    """The kernel of every channel as a shift register of p inputs that runs into N modes.

        memory_t = eigenvalues memory_{t-1} + x_{t-p}
        y_t = sum over j < p of taps_j x_{t-j} + Re sum over n of weights_n memory_t[n]

    Modes with a positive imaginary part stand for themselves and their conjugate, whose weights are in theirs. Channels
    that need fewer modes than others have eigenvalues and weights of zero.

    Args:
        taps: [C p].
        eigenvalues, weights: [C N], modulus of the eigenvalues at most 1.
    """

    taps: Float[Tensor, "C p"]
    eigenvalues: Complex[Tensor, "C N"]
    weights: Complex[Tensor, "C N"]

    def kernel(self, length: int) -> Float[Tensor, "C L"]:
        """The impulse response at lags 0..length - 1, in double precision."""
        taps, values = self.taps.double(), self.eigenvalues.to(torch.complex128)
        logs = values.abs().clamp_min(1e-300).log().clamp_min(LOG_DECAY_FLOOR)
        first = taps.shape[1]
        if length <= first or values.shape[1] == 0:
            return F.pad(taps, (0, max(0, length - first)))[:, :length]
        rest = evaluate(self.weights.to(torch.complex128), ConstantModes(logs, values.angle()), length - first)
        return torch.cat([taps, rest], 1)

    def rounded(self, dtype: torch.dtype = torch.float32) -> ModalSystem:
        """The same system in another precision, with no eigenvalue outside the unit disc."""
        values = inside_disc(self.eigenvalues, dtype.to_complex())
        return ModalSystem(self.taps.to(dtype), values, self.weights.to(values.dtype))

    def orders(self) -> Int[Tensor, " C"]:
        """Number of real states of each channel beside its taps: two for a complex mode, one for a real one."""
        used = self.weights != 0
        return (used.long() * (1 + (self.eigenvalues.imag != 0).long())).sum(1)

    def state_size(self) -> int:
        """Real numbers that one channel keeps: its last p inputs and N complex modes."""
        return self.taps.shape[1] + 2 * self.eigenvalues.shape[1]

    def stream(self, dtype: torch.dtype = torch.float32) -> ModalConvolver:
        """The same system as a stream of inputs of some type."""
        return ModalConvolver(self.taps, self.eigenvalues, self.weights, dtype)

    def select(self, channels: Tensor) -> ModalSystem:
        """The systems of some channels."""
        return ModalSystem(self.taps[channels], self.eigenvalues[channels], self.weights[channels])


def inside_disc(values: Complex[Tensor, "C N"], dtype: torch.dtype) -> Complex[Tensor, "C N"]:
    """The nearest numbers of a complex type whose modulus is at most one.

    Errors of eigenvalues add up over the steps, so that pulling them to the border radially would cost half of the
    digits that rounding leaves.
    """
    exact = values.to(torch.complex128)
    rounded = values.to(dtype)
    real, imaginary = (neighbours(part) for part in (rounded.real, rounded.imag))
    near = torch.complex(*torch.broadcast_tensors(real[:, None], imaginary[None])).flatten(0, 1)
    wide = near.to(torch.complex128)
    distance = (wide - exact).abs().masked_fill(wide.abs() > 1, torch.inf)
    best = near.gather(0, distance.argmin(0, keepdim=True))[0]
    return torch.where(rounded.to(torch.complex128).abs() > 1, best, rounded)


def neighbours(value: Float[Tensor, "C N"]) -> Float[Tensor, "5 C N"]:
    """Numbers in order around each value, in its own type."""
    found = [value]
    for limit in (-torch.inf, torch.inf):
        step = value
        for _ in range(2):
            step = torch.nextafter(step, torch.full_like(step, limit))
            found.append(step)
    return torch.stack(found)


def widened(system: ModalSystem, modes: int) -> ModalSystem:
    """The same system with zeros for the modes that are missing up to a number of them."""
    missing = (0, modes - system.eigenvalues.shape[1])
    return replace(system, eigenvalues=F.pad(system.eigenvalues, missing), weights=F.pad(system.weights, missing))


def joined(systems: Sequence[ModalSystem]) -> ModalSystem:
    """The systems of several groups of channels as one."""
    modes = max(system.eigenvalues.shape[1] for system in systems)
    parts = zip(*((s.taps, s.eigenvalues, s.weights) for s in (widened(s, modes) for s in systems)), strict=True)
    return ModalSystem(*(torch.cat(part) for part in parts))


def relative_error(found: Float[Tensor, "C L"], kernel: Float[Tensor, "C L"]) -> Float[Tensor, " C"]:
    """Distance of two kernels of each channel in the 2-norm, relative to the second; 0 for two kernels of zeros."""
    distance = (found.double() - kernel.double()).norm(dim=1)
    return distance / kernel.double().norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)


def rounded_error(system: ModalSystem, kernel: Float[Tensor, "C L"]) -> Float[Tensor, " C"]:
    """The error of a system once it is rounded to single precision; as `relative_error`."""
    return relative_error(system.rounded().kernel(kernel.shape[1]), kernel)
