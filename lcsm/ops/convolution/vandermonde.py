"""Sums of powers of modes over time, by two levels of about sqrt(L) powers and one real matrix product.

powers^(a T + b) = powers^(a T) powers^b:   L powers of N modes from L / T + T of them
"""

from __future__ import annotations

from math import pi
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from lcsm.shapes import Float, Num, Tensor


class ConstantModes(NamedTuple):
    """exp(log_decay + i phase); the phase is None for real modes. Leading axes broadcast, [... N]."""

    log_decay: Float[Tensor, "... N"]
    phase: Float[Tensor, "... N"] | None


class Parts(NamedTuple):
    """Real and imaginary part; None for a real value. One real product of parts costs a quarter of a complex one."""

    real: Tensor
    imaginary: Tensor | None

    @staticmethod
    def of(value: Tensor) -> Parts:
        return Parts(value.real, value.imag) if value.is_complex() else Parts(value, None)

    def times(self, other: Parts) -> Parts:
        if other.imaginary is None:
            turned = None if self.imaginary is None else self.imaginary * other.real
            return Parts(self.real * other.real, turned)
        if self.imaginary is None:
            return Parts(self.real * other.real, self.real * other.imaginary)
        return Parts(
            self.real * other.real - self.imaginary * other.imaginary,
            self.real * other.imaginary + self.imaginary * other.real,
        )

    def whole(self) -> Tensor:
        return self.real if self.imaginary is None else torch.complex(self.real, self.imaginary)


class _Powers(torch.autograd.Function):
    """exp(exponent (log_decay + i phase)) as real and imaginary part; the angle is reduced in float64."""

    @staticmethod
    def forward(ctx: Any, log_decay: Tensor, phase: Tensor, exponents: Tensor) -> tuple[Tensor, Tensor]:
        angle = phase.double().unsqueeze(-2) * exponents.double().unsqueeze(-1)
        angle = angle.sub_((angle / (2 * pi)).round_().mul_(2 * pi)).to(phase.dtype)
        modulus = (log_decay.unsqueeze(-2) * exponents.unsqueeze(-1)).exp_()
        real, imaginary = modulus * angle.cos(), modulus * angle.sin()
        ctx.save_for_backward(real, imaginary, exponents)
        ctx.shapes = log_decay.shape, phase.shape
        return real, imaginary

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_real: Tensor, d_imaginary: Tensor) -> tuple[Tensor, Tensor, None]:
        real, imaginary, exponents = ctx.saved_tensors
        radial = torch.addcmul(d_real * real, d_imaginary, imaginary)
        angular = torch.addcmul(d_imaginary * real, d_real, imaginary, value=-1)
        # a product with the exponents sums over them
        d_log_decay, d_phase = ((exponents @ value) for value in (radial, angular))
        return d_log_decay.sum_to_size(ctx.shapes[0]), d_phase.sum_to_size(ctx.shapes[1]), None


def powers(modes: ConstantModes, exponents: Num[Tensor, " E"]) -> Parts:
    """Modes to the given powers, [... E N]."""
    exponents = exponents.to(modes.log_decay.dtype)
    if modes.phase is None:
        return Parts((modes.log_decay.unsqueeze(-2) * exponents.unsqueeze(-1)).exp(), None)
    return Parts(*_Powers.apply(modes.log_decay, modes.phase, exponents))


def power(modes: ConstantModes, exponent: int) -> Tensor:
    """Modes to one power, [... N]."""
    exponents = torch.tensor([float(exponent)], device=modes.log_decay.device)
    return powers(modes, exponents).whole()[..., 0, :]


def levels(modes: ConstantModes, length: int) -> tuple[Parts, Parts]:
    """Fine powers 0..T-1, [... T N], and coarse powers 0, T, 2T, ... up to `length`, [... L/T N]."""
    fine = 1 << ((length.bit_length() + 1) // 2)
    coarse = -(-length // fine)
    steps = torch.arange(max(fine, coarse), device=modes.log_decay.device)
    return powers(modes, steps[:fine]), powers(modes, steps[:coarse] * fine)


def evaluate(weights: Num[Tensor, "... N"], modes: ConstantModes, length: int) -> Float[Tensor, "... L"]:
    """Re sum over n of weights_n modes_n^j for j = 0..length-1; weights [... N]."""
    fine, coarse = levels(modes, length)
    coarse = coarse.times(Parts.of(weights.unsqueeze(-2)))
    left, right = coarse.real, fine.real
    if fine.imaginary is not None and coarse.imaginary is not None:
        left = torch.cat([coarse.real, -coarse.imaginary], -1)
        right = torch.cat([fine.real, fine.imaginary], -1)
    found = (left @ right.mT).flatten(-2)
    return found if found.shape[-1] == length else found[..., :length]


def accumulate(values: Float[Tensor, "... L"], modes: ConstantModes) -> Num[Tensor, "... N"]:
    """Sum over j of modes_n^j values_j, [... N]."""
    length = values.shape[-1]
    fine, coarse = levels(modes, length)
    count, size = coarse.real.shape[-2], fine.real.shape[-2]
    table = fine.real if fine.imaginary is None else torch.cat([fine.real, fine.imaginary], -1)
    sums = torch.nn.functional.pad(values, (0, count * size - length)).unflatten(-1, (count, size)) @ table
    if fine.imaginary is None:
        return (sums * coarse.real).sum(-2)
    found = Parts(*sums.chunk(2, -1)).times(coarse)
    return Parts(found.real, found.imaginary).whole().sum(-2)
