"""Independent modes of a continuous-time system: what S4D, S5 and LDNN share."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import Complex, Float, Stream, Tensor, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.state_space.discretisation import Rates, check_rate, choose_rule
from lcsm.stages.state_space.spectrum import PartMap
from lcsm.structures import Context, Diagonal, widen


def trained(value: Tensor) -> nn.Parameter:
    """A parameter of the dynamics: no weight decay, and the learning rate of the oscillation."""
    return mark(nn.Parameter(value.detach().to(torch.get_default_dtype())), group="oscillation")


class Modes(Oscillation):
    """Modes that decay and turn by themselves, in continuous time.

        x' = rate x + u,   memory_t = exp(rate step) memory_{t-1} + gain u_t   (by zero-order hold)

    Args:
        rates: start of the rates, [H N] or [1 N] where all heads share them; real rates make a real memory.
        log_step: logarithm of the step sizes, [H S] with S = N, or S = 1 where the modes of a head share one.
        real: map of the real parts.
        discretisation: one of `discretisation.RULES`.
        pairs: modes stand for conjugate pairs.
        rate: factor on all step sizes; 2 for data sampled half as often as in training.
        irregular: whether every call gives the length of each step in context.dt, [B L].
    Returns:
        Diagonal with log-decays, phases and gain [1 1 H N 1]; with irregular steps they vary along B and L as declared.
    Raises:
        UsageError: irregular steps with a rule whose gain would be as large as all memories together.
    Attributes:
        mixes_channels: the expand varies along B, L, H and N anyway (P = 1), so that a gain of that size costs nothing.
    """

    mixes_channels: bool = False

    def __init__(
        self,
        rates: Complex[Tensor, "H N"] | Float[Tensor, "H N"],
        log_step: Float[Tensor, "H S"],
        real: PartMap,
        discretisation: str,
        pairs: bool,
        rate: float,
        irregular: bool,
    ) -> None:
        super().__init__()
        self.real_map, self.rule = real, choose_rule(discretisation)
        self.rate, self.irregular = check_rate(rate), irregular
        self.real = trained(real.start(rates.real))
        self.imaginary = trained(rates.imag) if rates.is_complex() else None
        self.log_step = trained(log_step)
        self.pairs = pairs and rates.is_complex()
        self.decay = "HN"
        if discretisation != "dirac":
            self.gain = "HN" if discretisation != "euler" or log_step.shape[1] > 1 else "H"
        if irregular:
            self._declare_irregular(discretisation)
        if rates.is_complex():
            self.phase = self.decay

    def _declare_irregular(self, discretisation: str) -> None:
        self.decay = "LHN" if discretisation == "bilinear" else "HN*L"
        if self.gain == "HN" and not self.mixes_channels:
            raise UsageError(
                f"oscillation.irregular=true with discretisation={discretisation} needs a gain of its own for every "
                "step, channel and mode:\nuse discretisation=euler or dirac, or oscillation=s5"
            )
        self.gain = None if self.gain is None else f"L{self.gain}"

    def rates(self) -> Rates:
        """The rates and step sizes, [1 1 H N 1]."""
        imaginary = None if self.imaginary is None else self.turn(widen(self.imaginary))[None, None, ..., None]
        step = self.rate * widen(self.log_step).exp()
        return Rates(
            self.real_map.value(widen(self.real))[None, None, ..., None], imaginary, step[None, None, ..., None]
        )

    def turn(self, imaginary: Tensor) -> Tensor:
        """The imaginary parts from the numbers that are trained."""
        return imaginary

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        rates = self.rates()
        if not self.irregular:
            log_decay, phase, gain = self.rule(rates)
            return Diagonal(log_decay=log_decay, phase=phase, gain=gain), past
        if context is None or context.dt is None:
            raise UsageError(
                "oscillation.irregular=true, but this call has no step lengths: pass Context(dt=...), [B L],\n"
                "or set oscillation.irregular=false, which is fixed when the model is built"
            )
        lengths = context.dt[:, :, None, None, None]
        log_decay, phase, gain = self.rule(rates._replace(step=rates.step * lengths))
        if self.decay != "HN*L":
            return Diagonal(log_decay=log_decay, phase=phase, gain=gain), past
        log_decay, phase = rates.scaled
        return Diagonal(log_decay=log_decay, phase=phase, step=lengths, gain=gain), past
