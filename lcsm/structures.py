"""Structures, the values of an oscillation: one step of the memory as small factors that broadcast to [B L H N P].

    memory_t = oscillation_t(memory_{t-1}) + expand_t input_t^T          memory: [N P] per head

`advance` is the recurrence of each structure, one line each. Everything faster reads the same fields.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from lcsm.errors import UsageError
from lcsm.shapes import Factor, Inputs, Memory, RealFactor, Resets, Segments, Tensor, Writes

# exp(-80) is below every float32 rounding error that the memory can show, and finite where -inf would give NaN.
LOG_DECAY_FLOOR = -80.0
CANNOT_ADVANCE = (
    "this oscillation has modes that may grow, so that its memory cannot be carried from step to step: "
    "set oscillation.real=exp, which keeps them from growing"
)


@dataclass(frozen=True)
class Context:
    """Side information that stages may need besides their input.

    Args:
        segments: document ids of packed rows, [B L]; a change of id forgets the memory. Padding has an id of its own.
        resets: True where a token begins another document than the token before it, [B L], also across calls. A mixer
            makes it of `segments` for its stages, see `stages.segments.with_resets`.
        dt: length of each step for continuous-time oscillations, [B L], in units of the trained step;
            an oscillation without irregular steps refuses it, other stages do not see it.
        shared: values that one layer hands to later ones, by name.
    """

    segments: Segments | None = None
    resets: Resets | None = None
    dt: Tensor | None = None
    shared: dict[str, Tensor] | None = None


def widen(value: Tensor) -> Tensor:
    """The value in at least float32: decays, memory and what enters them never live in half precision."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


def in_double(value: Tensor) -> Tensor:
    """The value in double precision."""
    return value.to(torch.complex128 if value.is_complex() else torch.float64)


def rows(value: Tensor, start: int, stop: int) -> Tensor:
    """Steps start..stop of a factor [B L ...]; a factor that is constant in time is returned as it is."""
    return value if value.shape[1] == 1 else value[:, start:stop]


def at(value: Tensor, t: int) -> Tensor:
    """Step t of a factor [B L ...], without the time axis."""
    return value[:, t if value.shape[1] > 1 else 0]


@dataclass(frozen=True, kw_only=True)
class Structure(ABC):
    """Base of all structures: flat, only tensors or None, so that an autograd.Function can take the fields.

    Args:
        gain: scales what is written, constant along N or along P.
    """

    gain: Factor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are present, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def map(self, function: Callable[[Tensor], Tensor]) -> Any:
        """The same structure with `function` applied to every field that is present."""
        return replace(self, **{name: function(value) for name, value in self.tensors().items()})

    def rows(self, start: int, stop: int) -> Any:
        """The structure of steps start..stop alone."""
        return self.map(lambda value: rows(value, start, stop))

    def flip(self) -> Any:
        """The structure of the sequence read backwards."""
        return self.map(lambda value: value.flip(1))

    def apply_gain(self, inputs: Inputs, expand: Writes) -> tuple[Inputs, Writes]:
        """Scale what is written on its cheaper side: a real gain without N axis on the inputs, else on the expand."""
        if self.gain is None:
            return inputs, expand
        if self.gain.shape[3] == 1 and not self.gain.is_complex():
            return inputs * self.gain[:, :, :, 0], expand
        return inputs, expand * self.gain

    @abstractmethod
    def advance(self, memory: Memory, t: int, pairs: bool = False) -> Memory:
        """The memory after step t, before anything is written."""


@dataclass(frozen=True, kw_only=True)
class Decaying(Structure):
    """Every memory entry decays and turns: exp(log_decay + i phase); subclasses say what else becomes of it.

    Args:
        log_decay: real, <= 0, nats per step.
        phase: real, radians per step; the memory is complex where it is given.
        step: multiplies log_decay and phase (the step size of a discretised system).
        columns: added to log_decay, varies along P (a separable N x P decay).
        log_gain: unbounded exp(.) weight of what is written, constant along N; excludes gain, see `ops.stabilise`.
    """

    log_decay: RealFactor
    phase: RealFactor | None = None
    step: RealFactor | None = None
    columns: RealFactor | None = None
    log_gain: RealFactor | None = None

    def log(self, start: int, stop: int) -> RealFactor:
        """Log-decays of steps start..stop, floored at -80: the only way in which algorithms see them."""
        return self.unfloored(start, stop).clamp_min(LOG_DECAY_FLOOR)

    def unfloored(self, start: int, stop: int) -> RealFactor:
        """Log-decays of steps start..stop as they are; unbounded weights can show what lies below the floor."""
        value = rows(self.log_decay, start, stop)
        if self.step is not None:
            value = value * rows(self.step, start, stop)
        if self.columns is not None:
            value = value + rows(self.columns, start, stop)
        return value

    def angle(self, start: int, stop: int) -> RealFactor | None:
        """Phases of steps start..stop in radians, None where the memory is real."""
        if self.phase is None:
            return None
        value = rows(self.phase, start, stop)
        return value if self.step is None else value * rows(self.step, start, stop)

    def factor(self, start: int, stop: int) -> Factor:
        """The factors of the memory at steps start..stop: exp(log + i angle)."""
        decay, angle = self.log(start, stop).exp(), self.angle(start, stop)
        if angle is None:
            return decay
        # complex exp costs forty times a real one
        return torch.complex(*torch.broadcast_tensors(decay * angle.cos(), decay * angle.sin()))


@dataclass(frozen=True, kw_only=True)
class Diagonal(Decaying):
    """A diagonal transition: every memory entry decays and turns independently of the others."""

    def advance(self, memory: Memory, t: int, pairs: bool = False) -> Memory:
        return self.factor(t, t + 1)[:, 0] * memory


@dataclass(frozen=True, kw_only=True)
class LowRank(Decaying):
    """A diagonal plus a low-rank term: decay * memory + left (right^T memory).

    Args:
        left, right: [B L H N R]. With conjugate pairs the bracket is 2 Re(right^T memory).
    """

    left: Factor
    right: Factor

    def advance(self, memory: Memory, t: int, pairs: bool = False) -> Memory:
        seen = at(self.right, t).to(memory.dtype).transpose(-1, -2) @ memory
        if pairs:
            seen = (2 * seen.real).to(memory.dtype)
        return self.factor(t, t + 1)[:, 0] * memory + at(self.left, t).to(memory.dtype) @ seen


@dataclass(frozen=True, kw_only=True)
class Delta(LowRank):
    """A low-rank term of rank one that is taken away: decay * memory - beta left (right^T memory).

    Where `left` is the very expand that is written (the same tensor), algorithms write and erase in one product.

    Args:
        beta: how much of what is found along `right` is erased, [B L H 1 1].
    """

    beta: RealFactor

    def advance(self, memory: Memory, t: int, pairs: bool = False) -> Memory:
        erased = at(self.beta, t) * (at(self.right, t).to(memory.dtype).mT @ memory)
        return self.factor(t, t + 1)[:, 0] * memory - at(self.left, t).to(memory.dtype) @ erased


@dataclass(frozen=True, kw_only=True)
class Trapezoid(LowRank):
    """A low-rank system of conjugate pairs discretised by the trapezoidal rule, whose gain mixes rows.

        written_t = half_step (advance(expand_t) + expand_t) input_t

    Args:
        half_step: half the step size, [1 1 H 1 1].
    """

    half_step: RealFactor

    def apply_gain(self, inputs: Inputs, expand: Writes) -> tuple[Inputs, Writes]:
        expand = expand.to(self.right.dtype).expand(*expand.shape[:3], self.right.shape[3], -1)
        mixed = self.left @ (2 * (self.right.mT @ expand).real).to(expand.dtype)
        return inputs, self.half_step * (self.factor(0, expand.shape[1]) * expand + mixed + expand)


@dataclass(frozen=True, kw_only=True)
class Growing(Decaying):
    """A diagonal whose decays may exceed one: only a kernel of a fixed span can be formed, never a recurrence.

        kernel[l] = shrink^T (gain exp((log_decay + i phase) (l - lag)) expand) for l < span, 0 beyond
        lag = span - 1 where a mode grows, 0 where it decays

    Args:
        span: number of lags, [1 1 1 1 1].
    """

    span: RealFactor

    def advance(self, memory: Memory, t: int, pairs: bool = False) -> Memory:
        raise UsageError(CANNOT_ADVANCE)


@dataclass(frozen=True, kw_only=True)
class Dense(Structure):
    """A full matrix: memory_t = matrix_t memory_{t-1}.

    Args:
        matrix: [B L H N N], spectral norm <= 1.
    """

    matrix: Factor

    def advance(self, memory: Memory, t: int, pairs: bool = False) -> Memory:
        return at(self.matrix, t) @ memory


@dataclass(frozen=True, kw_only=True)
class Shift(Structure):
    """The memory is the last N inputs: every row moves down by one and the newest is written to row 0."""

    def advance(self, memory: Memory, t: int, pairs: bool = False) -> Memory:
        return torch.cat([torch.zeros_like(memory[:, :, :1]), memory[:, :, :-1]], 2)


@dataclass(frozen=True, kw_only=True)
class Factored(Decaying):
    """Constant decays and turns whose factor is known as it is, so that no step rounds its phase anew.

    Args:
        factors: exp(log_decay + i phase), complex, [1 1 H N P].
    """

    factors: Factor

    def factor(self, start: int, stop: int) -> Factor:
        return self.factors


@dataclass(frozen=True, kw_only=True)
class Eigenvalues(Factored, Diagonal):
    """A constant diagonal by its factors."""


@dataclass(frozen=True, kw_only=True)
class Register(Factored):
    """A shift register whose oldest row runs into modes: exact first lags, then sums of powers.

    The memory has as many rows before those of the modes, whose factors are given, as the register has; inputs enter at
    row 0 only.
    """

    def advance(self, memory: Memory, t: int, pairs: bool = False) -> Memory:
        register, modes = memory.tensor_split([memory.shape[2] - self.factors.shape[3]], 2)
        moved = torch.cat([torch.zeros_like(register[:, :, :1]), register[:, :, :-1]], 2)
        return torch.cat([moved, self.factors[:, 0] * modes + register[:, :, -1:]], 2)
