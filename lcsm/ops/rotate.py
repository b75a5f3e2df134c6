"""A complex memory by a real algorithm: expand and shrink turn by the accumulated phase, rows become [Re, Im].

    memory_t = e^{i phi_t} turned_t,   turned_t = decay_t turned_{t-1} + (e^{-i phi_t} expand_t) input_t^T
    output_t = Re((shrink_t e^{i phi_t})^T turned_t)

phi_t is the phase accumulated since the start of the call; only differences of it matter, so a memory that is carried
in its true frame, and segments that start anywhere, need no position; see `docs/rotate.md`.
"""

from collections.abc import Callable
from dataclasses import replace
from math import pi
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from lcsm.ops.chunk.chunk import chunk
from lcsm.ops.reference import blank_memory, extents, require_diagonal
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.substeps import by_steps
from lcsm.shapes import Complex, Factor, Float, Inputs, Memory, Reads, RealFactor, Resets, Tensor, Writes
from lcsm.structures import Diagonal, Structure


@by_steps
def rotate(
    spec: RecurrenceSpec,
    structure: Structure,
    inputs: Inputs,
    expand: Writes,
    shrink: Factor,
    memory: Memory | None = None,
    keep: bool = False,
    resets: Resets | None = None,
    inner: Callable[..., Any] = chunk,
) -> tuple[Reads, Memory | None]:
    """Turn, run a real algorithm on twice the rows, turn back; arguments and results as in `ops.reference`.

    Args:
        inner: the real algorithm that runs on the turned rows.
    Raises:
        ValueError: the phase varies along P, the inputs are complex, expand or shrink couple N and P, or the structure
            is no `Diagonal`.
    Source: rotary position embedding (2104.09864) as a change of frame; cosFormer, LRPE, RetNet, GateLoop.
    """
    structure = require_diagonal(structure, "rotate")
    if structure.phase is None:
        raise ValueError("rotate needs a phase, but the oscillation has none: use algorithm=auto")
    _refuse_columns(structure, inputs, expand, shrink)
    _, length = extents(structure, inputs, expand, shrink)
    # a memory of no rows has the type of a whole one
    blank = blank_memory(spec, structure, inputs, expand, 0)
    dtype = torch.promote_types(blank.dtype, memory.dtype).to_real() if memory is not None else blank.dtype.to_real()
    columns = None
    if expand.shape[4] > 1:
        inputs, expand = inputs * expand.squeeze(3), expand.new_ones(1, 1, 1, 1, 1)
    if shrink.shape[4] > 1:
        columns, shrink = shrink.squeeze(3), shrink.new_ones(1, 1, 1, 1, 1)

    phases = accumulated_phase(structure, length, dtype)
    turned = Turned(spec.state_dim, _turning(structure, expand, shrink, memory), spec.exclusive, phases)
    real_spec = replace(spec, phase=None, gain=None, pairs=False, expand="LHN", shrink="LHN", state_dim=turned.num_rows)
    outputs, final = inner(
        real_spec,
        replace(structure, phase=None, gain=None, log_gain=None).map(turned.double),
        inputs.to(dtype),
        turned.expand(expand),
        turned.shrink(shrink) if spec.reads == "vector" else shrink[:, :, :, :1],
        None if memory is None else turned.enter(memory),
        keep=keep,
        resets=resets,
    )
    if spec.reads == "memory":
        outputs = turned.leave(outputs.unsqueeze(4), turned.read_frame(), 3).squeeze(4)
    else:
        outputs = outputs if columns is None else outputs * columns
        outputs = 2 * outputs if spec.pairs else outputs
    return outputs, turned.leave(final, turned.last_frame(), 2) if final is not None else None


def _refuse_columns(structure: Diagonal, inputs: Inputs, expand: Writes, shrink: Factor) -> None:
    """Everything that one rotation per row cannot express."""
    found = ""
    if structure.phase is not None and structure.phase.shape[4] > 1:
        found = f"a phase of shape {list(structure.phase.shape)} varies along P"
    if inputs.is_complex():
        found = "the inputs are complex"
    for name, value in (("expand", expand), ("shrink", shrink)):
        if value.shape[4] > 1 and (value.shape[3] > 1 or value.is_complex()):
            found = f"{name} of shape {list(value.shape)} varies along P and along N or is complex"
    if found:
        raise ValueError(f"rotate turns whole rows, but {found}: use algorithm=elementwise")


class _Accumulate(torch.autograd.Function):
    """Sums of phases over time in float64, returned between -pi and pi: float32 stays exact at any length."""

    @staticmethod
    def forward(ctx: Any, angle: Tensor, dtype: torch.dtype) -> Tensor:
        phase = angle.double().cumsum(1)
        return phase.sub_((phase / (2 * pi)).round_().mul_(2 * pi)).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.double().flip(1).cumsum(1).flip(1), None


def accumulated_phase(structure: Diagonal, length: int, dtype: torch.dtype) -> RealFactor:
    """The phase accumulated since the start, step t included, modulo 2 pi; [#B L #H #N 1]."""
    assert structure.phase is not None
    step = None if structure.step is None else structure.step.double()
    angle = replace(structure, phase=structure.phase.double(), step=step).angle(0, length)
    assert angle is not None
    return _Accumulate.apply(angle.expand(-1, length, -1, -1, -1), dtype)


def _turning(structure: Diagonal, expand: Writes, shrink: Factor, memory: Memory | None) -> Tensor | None:
    """Indices of the rows that turn at all, None for all of them: real rows without phase stay real."""
    phase = structure.phase
    assert phase is not None
    if phase.shape[1] > 1 or phase.shape[3] == 1 or memory is not None or expand.is_complex() or shrink.is_complex():
        return None
    turns = (phase.detach() != 0).any(dim=4).any(dim=2).any(dim=0)[0]
    return None if bool(turns.all()) else turns.nonzero()[:, 0]


class Turned:
    """The turned frame of one call.

    Args:
        size: N.
        rows: indices of the rows with an imaginary part, None for all.
        exclusive: whether step t reads in the frame of step t - 1.
        phases: accumulated phase, [#B L #H #N 1].
    """

    def __init__(self, size: int, rows: Tensor | None, exclusive: bool, phases: RealFactor):
        self.size, self.rows = size, rows
        self.cos, self.sin = phases.cos(), phases.sin()
        self.read_cos, self.read_sin = self.cos, self.sin
        if exclusive:
            self.read_cos = torch.cat([torch.ones_like(self.cos[:, :1]), self.cos[:, :-1]], 1)
            self.read_sin = torch.cat([torch.zeros_like(self.sin[:, :1]), self.sin[:, :-1]], 1)

    @property
    def num_rows(self) -> int:
        return self.size + (self.size if self.rows is None else len(self.rows))

    def _stack(self, real: Tensor, imaginary: Tensor, axis: int) -> Tensor:
        """[Re, Im] along the rows; only turning rows have an imaginary part."""
        shape = list(real.shape)
        shape[axis] = self.size
        real, imaginary = real.expand(shape), imaginary.expand(shape)
        return torch.cat([real, imaginary if self.rows is None else imaginary.index_select(axis, self.rows)], axis)

    def double(self, field: Tensor) -> Tensor:
        """A real field of the oscillation for both parts of every row."""
        return field if field.shape[3] == 1 else self._stack(field, field, 3)

    def expand(self, value: Writes) -> Float[Tensor, "#B #S #H rows #P"]:
        """e^{-i phi} expand."""
        if not value.is_complex():
            return self._stack(value * self.cos, -value * self.sin, 3)
        real, imaginary = value.real, value.imag
        return self._stack(real * self.cos + imaginary * self.sin, imaginary * self.cos - real * self.sin, 3)

    def shrink(self, value: Factor) -> Float[Tensor, "#B #L #H rows #P"]:
        """[Re, -Im] of e^{i phi} shrink."""
        if not value.is_complex():
            return self._stack(value * self.read_cos, -value * self.read_sin, 3)
        real, imaginary = value.real, value.imag
        return self._stack(
            real * self.read_cos - imaginary * self.read_sin, -real * self.read_sin - imaginary * self.read_cos, 3
        )

    def enter(self, memory: Memory) -> Float[Tensor, "B H rows P"]:
        """A memory [B H N P] as real rows; the frame starts here."""
        return self._stack(memory.real, memory.imag if memory.is_complex() else torch.zeros_like(memory), 2)

    def read_frame(self) -> Tensor:
        """e^{i phi} of what every step reads, [#B L #H #N 1]."""
        return torch.complex(self.read_cos, self.read_sin)

    def last_frame(self) -> Tensor:
        """e^{i phi} after the last step, [#B #H #N 1]."""
        return torch.complex(self.cos[:, -1], self.sin[:, -1])

    def leave(self, rows: Tensor, frame: Tensor, axis: int) -> Complex[Tensor, "... N P"]:
        """Real rows, [B H rows P] or with L, as complex memories in their true frame."""
        real, imaginary = rows.split([self.size, rows.shape[axis] - self.size], axis)
        if self.rows is not None:
            imaginary = torch.zeros_like(real).index_copy(axis, self.rows, imaginary)
        return torch.complex(real, imaginary) * frame
