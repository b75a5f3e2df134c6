"""Discretisation: decay, phase and gain of one step of x' = rate x + u.

Every rule gets z = rate * step and gives log-modulus and angle of what the memory is multiplied by, and the gain of
what is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from lcsm.errors import UsageError
from lcsm.shapes import Factor, RealFactor, Tensor
from lcsm.stages.settings import choose, positive

# The squared modulus of a factor that vanishes: its logarithm has to stay finite, with its gradient.
SMALLEST_SQUARE = 1e-36


class Rates(NamedTuple):
    """Continuous-time rates and step sizes, each [1 1 H N 1] with axes of size 1 where they are shared.

    Args:
        real: real parts, per unit of time.
        imaginary: imaginary parts, radians per unit of time; None for real rates.
        step: step size; [B L H N 1] where steps are irregular.
    """

    real: RealFactor
    imaginary: RealFactor | None
    step: RealFactor

    @property
    def scaled(self) -> tuple[RealFactor, RealFactor | None]:
        """Real and imaginary part of rate * step."""
        return self.real * self.step, None if self.imaginary is None else self.imaginary * self.step

    @property
    def value(self) -> Factor:
        """The rates as real or complex numbers."""
        if self.imaginary is None:
            return self.real
        return torch.complex(*torch.broadcast_tensors(self.real, self.imaginary))


# log-decay, phase (None for real rates), gain (None for one)
Discrete = tuple[RealFactor, RealFactor | None, Factor | None]
Rule = Callable[[Rates], Discrete]


def exponential_minus_one(real: Tensor, imaginary: Tensor | None) -> Tensor:
    """exp(z) - 1 without cancellation for small z."""
    if imaginary is None:
        return torch.expm1(real)
    sine = (imaginary / 2).sin()
    return torch.complex(real.expm1() * imaginary.cos() - 2 * sine.square(), real.exp() * imaginary.sin())


def zero_order_hold(rates: Rates) -> Discrete:
    """The input is constant between steps: exp(z), gain (exp(z) - 1) / rate."""
    log_decay, phase = rates.scaled
    return log_decay, phase, exponential_minus_one(log_decay, phase) / rates.value


def bilinear(rates: Rates) -> Discrete:
    """The trapezoidal rule: (1 + z/2) / (1 - z/2), gain step / (1 - z/2)."""
    real, imaginary = rates.scaled
    if imaginary is None:
        raise UsageError(
            "oscillation.discretisation=bilinear turns fast real decays negative, which needs a complex memory: "
            "use zero_order_hold, or a complex spectrum"
        )
    above, below = ((1 + sign * real / 2).square() + (imaginary / 2).square() for sign in (1, -1))
    # above / below - 1 is exact near 1, where the quotient is not
    excess = 2 * real / below
    near = torch.log1p(excess.clamp_min(-0.5))
    far = above.clamp_min(SMALLEST_SQUARE).log() - below.log()
    log_decay = torch.where(excess > -0.5, near, far) / 2
    phase = torch.atan2(imaginary / 2, 1 + real / 2) + torch.atan2(imaginary / 2, 1 - real / 2)
    return log_decay, phase, rates.step / torch.complex(1 - real / 2, -imaginary / 2)


def dirac(rates: Rates) -> Discrete:
    """The input is a train of impulses: exp(z), gain 1."""
    return *rates.scaled, None


def euler(rates: Rates) -> Discrete:
    """Exact decay, and the input held for one step without decaying meanwhile: exp(z), gain step.

    Source: Mamba (2312.00752), where it stands in for the zero-order hold.
    """
    return *rates.scaled, rates.step


RULES: dict[str, Rule] = {
    "zero_order_hold": zero_order_hold,
    "bilinear": bilinear,
    "dirac": dirac,
    "euler": euler,
}


def choose_rule(name: str) -> Rule:
    """The discretisation that the YAML names."""
    return choose("oscillation.discretisation", name, RULES)


def log_uniform_steps(shape: tuple[int, ...], step_range: list[float]) -> Tensor:
    """Logarithms of step sizes, log-uniform in `step_range`: [smallest, largest]."""
    if len(step_range) != 2 or not 0 < step_range[0] <= step_range[1]:
        raise UsageError(
            f"oscillation.step_range={step_range} must be two step sizes, 0 < smallest <= largest: use [0.001, 0.1]"
        )
    return torch.empty(shape, device="cpu").uniform_(*map(math.log, step_range))


def check_rate(rate: float) -> float:
    """The factor on all step sizes that adapts a trained system to another sampling rate."""
    return positive("oscillation.rate", rate)
