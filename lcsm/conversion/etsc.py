"""ETSC: any causal kernel of n taps as a recurrence of n modes on a circle, by one discrete Fourier transform.

    kernel_k = sum over s of weight_s eigenvalue_s^k,  k < n,   eigenvalue_s = radius exp(-2 pi i (s + shift) / m)

The equations of m eigenvalues on a circle have the condition number 1. Beyond m steps the kernel returns, damped by
radius^m, with the opposite sign for shift = 1/2. Source: arXiv 2311.08756, with three changes: no padding, so that the
sum of the taps may be anything; eigenvalues from double precision; only one of each conjugate pair.
"""

from __future__ import annotations

from math import pi
from typing import Literal

import torch

from lcsm.conversion.system import ModalSystem, rounded_error, widened
from lcsm.errors import UsageError
from lcsm.shapes import Complex, Float, Tensor

# part of an error that must go before a channel gets a form that needs one mode more
WORTH = 0.8


def etsc(
    kernel: Float[Tensor, "C n"],
    roots: Literal["odd", "all"] = "odd",
    radius: Float[Tensor, " C"] | float = 1.0,
    length: int | None = None,
) -> ModalSystem:
    """The recurrence of a kernel's effective coefficients, in double precision.

    Args:
        kernel: the coefficients that are convolved with, whatever decays and activations made them.
        roots: "odd" (eigenvalues between the roots of one: only conjugate pairs for an even m) or "all" (roots of one).
        radius: modulus of the eigenvalues, in (0, 1]; rounding errors fade with it, and so does what returns after m.
        length: m, at least n; the kernel is zero from lag n until m. None for n.
    """
    taps = kernel.double()
    count = taps.shape[1] if length is None else length
    if count < taps.shape[1]:
        raise UsageError(f"length={length} must be at least the {taps.shape[1]} taps of the kernel")
    scale = torch.as_tensor(radius, dtype=torch.float64).expand(taps.shape[0])[:, None]
    if not bool(((scale > 0) & (scale <= 1)).all()):
        raise UsageError(f"radius={radius} must lie in (0, 1]")
    shift = 0.5 if roots == "odd" else 0.0
    steps = torch.arange(taps.shape[1], dtype=torch.float64)
    turned = taps * scale**-steps * torch.polar(torch.ones_like(steps), 2 * pi * shift / count * steps)
    # of each pair the one with an angle in [0, pi]
    index = torch.arange(-(-count // 2) if roots == "odd" else count // 2 + 1, dtype=torch.float64)
    weights = torch.fft.ifft(turned, n=count)[:, : len(index)].conj()
    angle = 2 * pi * (index + shift) / count
    alone = (angle == 0) | ((angle - pi).abs() < pi / (2 * count))
    values = torch.polar(torch.ones_like(angle), angle)
    values = torch.where(alone, torch.complex(values.real.round(), torch.zeros_like(angle)), values)
    weights = torch.where(alone, torch.complex(weights.real, torch.zeros_like(weights.real)), 2 * weights)
    return ModalSystem(taps.new_zeros(len(taps), 0), scale * values, weights.resolve_conj())


def rounding_etsc(kernel: Float[Tensor, "C n"]) -> ModalSystem:
    """The form of `etsc` that rounding harms least, for each channel.

    Odd roots, except for kernels with a large mean: the mean is one mode of the other form, decay 1, without error.
    """
    radius = fading_radius(kernel)
    odd, every = (etsc(kernel, roots, radius) for roots in ("odd", "all"))
    better = rounded_error(every, kernel) < WORTH * rounded_error(odd, kernel)
    if not bool(better.any()):
        return odd
    odd = widened(odd, every.eigenvalues.shape[1])
    return ModalSystem(
        odd.taps,
        torch.where(better[:, None], every.eigenvalues, odd.eigenvalues),
        torch.where(better[:, None], every.weights, odd.weights),
    )


def fading_radius(kernel: Float[Tensor, "C n"], growth: float = 1.5) -> Float[Tensor, " C"]:
    """The smallest radius at which the weights of `etsc` are at most `growth` times as large as at radius one.

    A kernel that decays like gamma^k gets about gamma. Smaller radii would let rounding errors of the weights show.
    """
    taps = kernel.double()
    steps = torch.arange(taps.shape[1], dtype=torch.float64)
    allowed = growth * taps.norm(dim=1)
    # in nats over the whole kernel; beyond 60 double precision would suffer
    low, high = taps.new_zeros(len(taps)), taps.new_full((len(taps),), 60.0)
    for _ in range(50):
        middle = (low + high) / 2
        grown = (taps * (middle[:, None] * steps / len(steps)).exp()).norm(dim=1)
        fits = grown <= allowed
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return (-low / len(steps)).exp()


def reference_etsc(
    coefficients: Float[Tensor, "C n"],
    gamma: float,
    roots: int | None = None,
    dropped: Literal["one", "none"] = "one",
    padding: Literal["zero_sum", "none"] = "zero_sum",
) -> tuple[Complex[Tensor, " N"], Complex[Tensor, "C N"]]:
    """Eigenvalues and input weights as the released code computes them, in the precision of the coefficients.

    Args:
        coefficients: t, before the decay, which the eigenvalues carry.
        gamma: modulus of the eigenvalues.
        roots: m; None for n + 1 with padding, n without.
        dropped: the root that is left out; the sum of all coefficients is its weight.
        padding: "zero_sum" appends minus the sum, so that the root one has no weight.
    Source: OpenNLPLab/ETSC-Exact-Toeplitz-to-SSM-Conversion, speed_memory_test.py.
    """
    if padding == "zero_sum":
        coefficients = torch.cat([coefficients, -coefficients.sum(1, keepdim=True)], 1)
    count = coefficients.shape[1] if roots is None else roots
    first = 1 if dropped == "one" else 0
    index = torch.arange(first, count, dtype=coefficients.dtype)
    angle = -2 * pi * index / count
    values = gamma * torch.complex(angle.cos(), angle.sin())
    return values, torch.fft.ifft(coefficients, n=count)[:, first:]


def reference_outputs(
    eigenvalues: Complex[Tensor, " N"], weights: Complex[Tensor, "C N"], x: Float[Tensor, "B L C"]
) -> Float[Tensor, "B L C"]:
    """The recurrence of the released code: memory <- eigenvalues memory + weights x_t, y_t = Re of its sum."""
    memory = weights.new_zeros(x.shape[0], *weights.shape)
    outputs = []
    for t in range(x.shape[1]):
        memory = eigenvalues * memory + weights * x[:, t, :, None]
        outputs.append(memory.sum(-1).real)
    return torch.stack(outputs, 1)
