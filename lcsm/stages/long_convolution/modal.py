"""Stages of a long convolution that was turned into a recurrence: constant complex modes behind a register or none.

    register_t = the last p inputs,   memory_t = eigenvalues memory_{t-1} + input_{t-p}
    output_t = sum over j < p of taps_j input_{t-j} + 2 Re sum over n of weights_n memory_t[n]

`lcsm convert` writes their parameters (`lcsm.conversion`); they may also be trained further, or from the start that
they have here: eigenvalues equally spaced on a circle.
"""

from __future__ import annotations

from math import exp, pi
from typing import Any

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.ops.recurrence import Recurrence
from lcsm.ops.spec import RecurrenceSpec
from lcsm.parameters import cached_unless_grad, mark
from lcsm.shapes import Complex, Factor, Float, Stream, Tensor, Writes
from lcsm.stages.base import Oscillation, Shrink
from lcsm.stages.segments import resets_of
from lcsm.structures import LOG_DECAY_FLOOR, Context, Eigenvalues, Factored, Register, widen


class ModalOscillation(Oscillation):
    """Constant eigenvalues of every channel, one of each conjugate pair, behind the rows of a register.

    Needs `expand=newest` with a register and `expand=hand_crafted` (ones) without.

    Args:
        taps: rows of the register, p >= 0; the other state_dim - p rows are modes.
    Returns:
        Eigenvalues, or Register with taps; a stream forms them once and keeps them in `past`.
    Raises:
        UsageError: there are no rows left for modes.
    """

    pairs = True
    decay = phase = "HNP"

    def __init__(self, num_heads: int, state_dim: int, value_dim: int, taps: int) -> None:
        super().__init__()
        if not 0 <= taps < state_dim:
            raise UsageError(f"oscillation.taps={taps} must be at least 0 and below mixer.state_dim={state_dim}")
        self.taps, count = taps, state_dim - taps
        if taps:
            self.kind = "shift"
        angle = pi * (torch.arange(count) + 0.5) / count
        start = torch.polar(torch.full_like(angle, exp(-1 / count)), angle)[None, :, None]
        self.eigenvalues = mark(nn.Parameter(pairs_of(start, num_heads, value_dim)), group="oscillation")

    def structure(self) -> Factored:
        """The eigenvalues, those outside the unit disc pulled to its border."""
        values = torch.view_as_complex(widen(self.eigenvalues))[None, None]
        modulus = values.to(torch.complex128).abs()
        # what is inside stays as it is to the bit: errors of eigenvalues add up over the steps
        values = torch.where(modulus > 1, values / modulus.to(values.real.dtype), values)
        wide = values.to(torch.complex128)
        log = wide.abs().clamp_min(torch.finfo(torch.float64).tiny).log().clamp_min(LOG_DECAY_FLOOR)
        kind: type[Factored] = Register if self.taps else Eigenvalues
        return kind(log_decay=log.to(values.real.dtype), phase=wide.angle().to(values.real.dtype), factors=values)

    def forward(
        self, x: Stream, expand: Writes, past: Factored | None = None, context: Context | None = None
    ) -> tuple[Factored, Factored]:
        before = cached_unless_grad(past)
        found = self.structure() if before is None else before
        return found, found


class ModalShrink(Shrink):
    """The exact first coefficients of a kernel, and the weights of its modes, [1 1 H N P].

    Args:
        taps: as in `ModalOscillation`.
    """

    varies = "HNP"

    def __init__(self, num_heads: int, state_dim: int, value_dim: int, taps: int) -> None:
        super().__init__()
        start = torch.ones(1, state_dim - taps, 1, dtype=torch.complex64) / (state_dim - taps)
        self.weights = mark(nn.Parameter(pairs_of(start, num_heads, value_dim)))
        self.taps = mark(nn.Parameter(torch.zeros(num_heads, taps, value_dim))) if taps else None

    def value(self) -> Factor:
        """The weights that read the memory; half the taps, as twice the real part is read."""
        weights = torch.view_as_complex(widen(self.weights))
        if self.taps is not None:
            weights = torch.cat([(widen(self.taps) / 2).to(weights.dtype), weights], 1)
        return weights[None, None]

    def vector(self, x: Stream, past: Factor | None = None, context: Context | None = None) -> tuple[Factor, Factor]:
        before = cached_unless_grad(past)
        found = self.value() if before is None else before
        return found, found


class ModalKernel(Shrink):
    """The convolution of a stage that has one inside (`input=hyena`, `input=h3`), as a recurrence.

    Args:
        modes: complex modes of each channel.
        taps: as in `ModalOscillation`.
    """

    def __init__(self, num_heads: int, value_dim: int, modes: int, taps: int) -> None:
        super().__init__()
        size = taps + modes
        self.sizes = (num_heads, size, value_dim)
        self.oscillation = ModalOscillation(num_heads, size, value_dim, taps)
        self.weights = ModalShrink(num_heads, size, value_dim, taps)
        oscillation = self.oscillation
        self.recurrence = Recurrence(
            RecurrenceSpec(
                kind=oscillation.kind,
                decay=oscillation.decay,
                phase=oscillation.phase,
                expand="N" if taps else "",
                shrink="HNP",
                num_heads=num_heads,
                state_dim=size,
                value_dim=value_dim,
                pairs=True,
            )
        )
        newest = torch.zeros(1, 1, 1, size if taps else 1, 1)
        newest[:, :, :, 0] = 1
        self.register_buffer("newest", newest, persistent=False)

    newest: Tensor

    def convolve(
        self, values: Float[Tensor, "B L H P"], past: tuple[Any, ...] | None, context: Context | None
    ) -> tuple[Float[Tensor, "B L H P"], tuple[Any, ...]]:
        """Convolve values; `past` is what the last call returned, None at the start of a sequence."""
        memory, structure, read = past if past is not None else (None, None, None)
        x = values.flatten(2)
        structure, _ = self.oscillation(x, self.newest, structure)
        read, _ = self.weights(x, past=read)
        written = self.recurrence.write(structure, values, self.newest)
        outputs, memory = self.recurrence.run(written, read, memory, True, resets_of(context))
        return outputs, (memory, structure, read)

    def state_size(self) -> int:
        """Real numbers that one sequence keeps."""
        spec = self.recurrence.spec
        return 2 * spec.num_heads * spec.state_dim * spec.value_dim


def pairs_of(start: Complex[Tensor, "1 M 1"], num_heads: int, value_dim: int) -> Float[Tensor, "H M P 2"]:
    """The same complex numbers for every channel, as pairs of reals."""
    value = torch.view_as_real(start.expand(num_heads, -1, value_dim).contiguous())
    return value.to(torch.get_default_dtype())
