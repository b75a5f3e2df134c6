"""The kernel of a constant low-rank oscillation through its resolvent.

    kernel[l] = shrink^T A^l expand,   A = diag(factor) + left right^T

On a circle of radius r below one the generating function sum_l kernel[l] (r w)^l is shrink^T (1 - r w A)^-1 expand,
which Woodbury's identity reduces to weighted sums over modes; an inverse FFT gives back kernel[l] r^l. What lies beyond
the number of points n comes back damped by r^n, so that neither a truncated read-out nor a longest length is needed.

Source: S4 (2111.00396), appendix C.3, evaluated off the unit circle in place of the truncation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from lcsm.shapes import Factor, Float, Num, Tensor, Writes
from lcsm.structures import LowRank

# One block of frequencies; there are many, and each is recomputed in the backward pass.
BLOCK_BYTES = 1 << 20


class Circle(NamedTuple):
    """Evaluation points of the generating function: `points` times on a circle whose radius^points is `damping`."""

    points: int
    damping: float


def circle(length: int, dtype: torch.dtype) -> Circle:
    """Points and damping for a kernel of `length` in real numbers of `dtype`, all in double precision.

    What comes back is damped; undoing r^l multiplies rounding errors by damping^(-length / points). Both stay near 1e-8
    where float32 is wanted, and near 1e-12 for float64.
    """
    if dtype == torch.float64:
        return Circle(4 * length, 10**-12.5)
    return Circle(length + length % 2, 1e-8)


def kernel(structure: LowRank, expand: Writes, shrink: Factor, length: int, pairs: bool) -> Float[Tensor, "H length"]:
    """The impulse response after 0 .. length - 1 steps, [H L]; real part, twice that for pairs.

    Args:
        structure: constant in time.
        expand, shrink: [1 1 H N 1], constant in time and along P; the gain is on the expand.
        length: number of lags.
        pairs: modes stand for conjugate pairs.
    """
    modes = structure.factor(0, 1)[0, 0].to(torch.complex128)
    columns = _side(expand, structure.left, modes)
    rows = _side(shrink, structure.right, modes)
    points, damping = circle(length, structure.log_decay.dtype)
    radius = damping ** (1 / points)
    weights = (rows.unsqueeze(-1) * columns.unsqueeze(-2)).flatten(2)  # H N (1+R)(1+R)
    one_sided = pairs or not any(value.is_complex() for value in (expand, shrink, structure.factor(0, 1)))
    count = points // 2 + 1 if one_sided else points
    block = max(1, BLOCK_BYTES // (16 * modes.numel()))
    spectrum = torch.cat(
        [
            checkpoint(
                _resolvent, modes, weights, start, min(start + block, count), points, radius, pairs,
                use_reentrant=False,
            )
            for start in range(0, count, block)
        ],
        -1,
    )  # fmt: skip
    damped = torch.fft.irfft(spectrum, points) if one_sided else torch.fft.ifft(spectrum).real
    lags = torch.arange(length, dtype=torch.float64, device=damped.device)
    return (damped[..., :length] * (-math.log(radius) * lags).exp()).to(structure.log_decay.dtype)


def _side(vector: Factor, low_rank: Factor, modes: Tensor) -> Num[Tensor, "H N R1"]:
    """expand and left, or shrink and right, as columns of one matrix [H N 1+R]."""
    shape = (*modes.shape[:2], -1)
    return torch.cat([value[0, 0].to(modes.dtype).expand(shape) for value in (vector, low_rank)], -1)


def _pair_sums(modes: Num[Tensor, "H N 1"], weights: Num[Tensor, "H N K"], z: Num[Tensor, "F 1"]) -> Tensor:
    """Sum over pairs of weight / (1 - z mode) and its conjugate partner, [H F K], in real arithmetic.

    A mode and its conjugate share a denominator of second order with real coefficients.
    """
    decay, square = modes.real.mT, modes.abs().square().mT  # H 1 N
    real = 1 - 2 * z.real * decay + (z * z).real * square
    imaginary = (z * z).imag * square - 2 * z.imag * decay
    norm = real.square() + imaginary.square()
    response = torch.cat([real / norm, -imaginary / norm], 1)
    turned = weights * modes.conj()
    flat, once = (response @ (2 * torch.cat([weights.real, turned.real], -1))).chunk(2, -1)
    flat, once = (torch.complex(*part.contiguous().chunk(2, 1)) for part in (flat, once))
    return flat - z * once


def _resolvent(
    modes: Tensor, weights: Tensor, start: int, stop: int, points: int, radius: float, pairs: bool
) -> Num[Tensor, "H F"]:
    """The generating function at frequencies start .. stop - 1."""
    angle = torch.arange(start, stop, dtype=torch.float64, device=modes.device) * (-2 * math.pi / points)
    z = torch.polar(torch.full_like(angle, radius), angle)[:, None]  # F 1
    sums = _pair_sums(modes, weights, z) if pairs else (1 / (1 - z * modes.mT)) @ weights
    size = math.isqrt(weights.shape[-1])
    sums = sums.unflatten(-1, (size, size))  # H F (1+R) (1+R)
    direct, left, right, inner = sums[..., :1, :1], sums[..., :1, 1:], sums[..., 1:, :1], sums[..., 1:, 1:]
    z = z[..., None]
    identity = torch.eye(size - 1, dtype=inner.dtype, device=inner.device)
    return (direct + z * left @ torch.linalg.solve(identity - z * inner, right))[..., 0, 0]
