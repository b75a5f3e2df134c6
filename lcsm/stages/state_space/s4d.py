"""S4D: one diagonal state space system per channel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch

from lcsm.errors import UsageError
from lcsm.shapes import Complex, Num, Tensor
from lcsm.stages.settings import choose
from lcsm.stages.state_space import hippo
from lcsm.stages.state_space.discretisation import log_uniform_steps
from lcsm.stages.state_space.modes import Modes
from lcsm.stages.state_space.spectrum import stable_map


def spectrum(frequencies: Callable[[Tensor, int], Tensor]) -> Callable[[int], Complex[Tensor, " N"]]:
    """A spectrum of real parts -1/2 with the given imaginary parts of modes n = 0 .. N - 1, for 2 N real states."""

    def build(count: int) -> Complex[Tensor, " N"]:
        index = torch.arange(count, dtype=torch.float64, device="cpu")
        return torch.complex(torch.full_like(index, -0.5), frequencies(index, 2 * count))

    return build


def legs(count: int) -> Complex[Tensor, " N"]:
    """The eigenvalues of the normal part of HiPPO-LegS."""
    return hippo.modes("legs", 2 * count, pairs=True).eigenvalues


def real(count: int) -> Complex[Tensor, " N"]:
    """The diagonal of HiPPO-LegS: -(n + 1), no imaginary part."""
    return -torch.arange(1.0, count + 1, dtype=torch.float64, device="cpu") + 0j


INITS = {
    "lin": spectrum(lambda n, size: math.pi * n),
    "inv": spectrum(lambda n, size: size / math.pi * (size / (2 * n + 1) - 1)),
    "inv2": spectrum(lambda n, size: size / math.pi * (size / (n + 1) - 1)),
    "quad": spectrum(lambda n, size: (1 + 2 * n).square() / math.pi),
    "legs": legs,
    "real": real,
}


def spread(rates: Num[Tensor, " N"], num_heads: int, tied: bool) -> Num[Tensor, "#H N"]:
    """The same rates for every head: one row that all of them share, or one row each."""
    return rates[None] if tied else rates.repeat(num_heads, 1)


class S4D(Modes):
    """The diagonal state space system of each channel: H = channels, P = 1.

        memory_t[h, n] = exp(step[h] rate[h, n]) memory_{t-1}[h, n] + gain[h, n] expand[h, n] input_t[h]

    Args:
        init: imaginary parts lin (pi n), inv ((S/pi)(S/(2n+1) - 1) with S = 2N), inv2, quad or legs (normal part of
            HiPPO-LegS), with real parts -1/2; real: -(n + 1).
        memory: complex (modes stand for conjugate pairs) or real (only with init=real).
        real: map that keeps real parts negative: exp, softplus, sigmoid, gaussian or clip.
        tied: whether all channels share their rates.
        discretisation: zero_order_hold, bilinear, dirac or euler.
        step_range: smallest and largest step size at first, log-uniform between; one step size per channel.
        rate, irregular: as in `Modes`.
    Source: S4D (2206.11893), table 1 of initialisations.
    """

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        init: Literal["lin", "inv", "inv2", "quad", "legs", "real"],
        memory: Literal["complex", "real"],
        real: str,
        tied: bool,
        discretisation: str,
        step_range: list[float],
        rate: float,
        irregular: bool,
    ) -> None:
        rates = choose("oscillation.init", init, INITS)(state_dim)
        if not choose("oscillation.memory", memory, {"complex": True, "real": False}):
            if init != "real" or discretisation == "bilinear":
                raise UsageError(
                    f"oscillation.memory=real with init={init} and discretisation={discretisation}: a real memory "
                    "needs init=real, and no bilinear rule, which turns fast decays negative"
                )
            rates = rates.real
        super().__init__(
            spread(rates, num_heads, tied),
            log_uniform_steps((num_heads, 1), step_range),
            stable_map(real),
            discretisation,
            True,
            rate,
            irregular,
        )
