"""Everything constant in time but the inputs: the kernel of the whole mixer, convolved with the inputs by FFT.

`docs/convolution.md` derives the kernels and their gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from lcsm.ops.convolution.fourier import causal_convolution, good_size
from lcsm.ops.convolution.growing import GrowingSystem
from lcsm.ops.convolution.low_rank import LowRankSystem
from lcsm.ops.convolution.mode_convolution import mode_convolution
from lcsm.ops.convolution.packing import by_sequence
from lcsm.ops.convolution.register import RegisterSystem
from lcsm.ops.convolution.vandermonde import ConstantModes, accumulate, evaluate, power
from lcsm.ops.reference import blank_memory, extents
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.substeps import by_steps
from lcsm.shapes import Factor, Float, Inputs, Memory, Num, Reads, Resets, Tensor, Writes
from lcsm.structures import Diagonal, Factored, Growing, LowRank, Register, Shift, Structure

# expand or shrink of a constant system, its rows last
Rows = Num[Tensor, "#H #P #N"]


@by_steps
def convolution(
    spec: RecurrenceSpec,
    structure: Structure,
    inputs: Inputs,
    expand: Writes,
    shrink: Factor,
    memory: Memory | None = None,
    keep: bool = False,
    resets: Resets | None = None,
) -> tuple[Reads, Memory | None]:
    """outputs = kernel * inputs + what the memory still gives; arguments and results as in `ops.reference`.

    Serves every structure but `Dense`, with factors that are constant in time. Modes that are constant in time, but
    written or read otherwise, are convolved one by one (`mode_convolution`). Packed rows are convolved as sequences of
    their own.

    Raises:
        ValueError: the oscillation varies in time, the inputs are complex but one kernel serves them or the memory is
            real, or a structure that is no diagonal has an expand or shrink that varies in time.
    """
    by_modes = isinstance(structure, Diagonal) and not _one_kernel(spec, expand, shrink)
    _refuse(spec, structure, inputs, {} if by_modes else {"expand": expand, "shrink": shrink})
    run: Callable[..., Any] = mode_convolution if by_modes else _convolution
    # autocast would turn the matrix products of the kernel to low precision
    with torch.autocast(inputs.device.type, enabled=False):
        return run(spec, structure, inputs, expand, shrink, memory, keep, resets)


def _one_kernel(spec: RecurrenceSpec, expand: Writes, shrink: Factor) -> bool:
    """Whether outputs are the inputs convolved with one kernel, once the oscillation is constant."""
    return spec.reads == "vector" and all(tuple(value.shape[:2]) == (1, 1) for value in (expand, shrink))


def _convolution(
    spec: RecurrenceSpec,
    structure: Structure,
    inputs: Inputs,
    expand: Writes,
    shrink: Factor,
    memory: Memory | None,
    keep: bool,
    resets: Resets | None,
) -> tuple[Reads, Memory | None]:
    """As `convolution`, for what it serves."""
    batch, length = extents(structure, inputs, expand, shrink)
    # a memory of no rows has the type of a whole one
    dtype = blank_memory(spec, structure, inputs, expand, 0).dtype
    dtype = (dtype if memory is None else torch.promote_types(dtype, memory.dtype)).to_real()
    # constant factors without batch and time, modes last: [#H #P #N]
    expand, shrink = (value.reshape(value.shape[2:]).mT for value in (expand, shrink))
    inputs = inputs.to(dtype).expand(-1, length, spec.num_heads, -1)
    before = None if memory is None else memory.mT
    system: _Diagonal | _Shift | LowRankSystem | GrowingSystem | RegisterSystem
    if isinstance(structure, LowRank):
        system = LowRankSystem(spec.pairs, spec.exclusive, structure, expand, shrink, dtype)
    elif isinstance(structure, Growing):
        system = GrowingSystem(spec.pairs, structure, expand, shrink, dtype)
    elif isinstance(structure, Factored):
        system = RegisterSystem(spec, structure, expand, shrink, dtype)
    elif isinstance(structure, Diagonal):
        system = _Diagonal(spec, structure, expand, shrink, dtype)
    else:
        system = _Shift(spec, expand, shrink, dtype)
    kernel = system.kernel(length)
    if spec.exclusive:
        kernel = F.pad(kernel, (1, 0))[..., :length]
    outputs = _convolve(inputs, kernel, resets).expand(batch, -1, -1, -1)
    segments = None if resets is None else resets.cumsum(1)
    if before is not None:
        carried = system.decayed(before, length).permute(0, 3, 1, 2)
        outputs = outputs + (carried if segments is None else carried * (segments == 0)[..., None, None])
    if not keep:
        return outputs, None
    recent = inputs.permute(0, 2, 3, 1)
    if segments is not None:
        recent = recent * (segments == segments[:, -1:])[:, None, None]
        before = None if before is None else before * (segments[:, -1] == 0)[:, None, None, None]
    final = system.final(recent, before)
    return outputs, final.expand(batch, -1, -1, -1).mT


def _refuse(spec: RecurrenceSpec, structure: Structure, inputs: Inputs, directions: dict[str, Factor]) -> None:
    found = ""
    for name, value in (directions | structure.tensors()).items():
        if name not in ("gain", "log_gain") and tuple(value.shape[:2]) != (1, 1):
            found = f"{name} has shape {list(value.shape)}, which varies over the batch or in time"
    if not isinstance(structure, (Diagonal, LowRank, Growing, Register, Shift)):
        found = f"the oscillation is {type(structure).__name__}"
    if spec.reads != "vector" and directions:
        found = f"the shrink reads the {spec.reads}"
    if inputs.is_complex() and (directions or spec.phase is None):
        found = "the inputs are complex"
    if found:
        raise ValueError(f"convolution needs one real kernel for all steps, but {found}: use algorithm=auto")


def _convolve(inputs: Tensor, kernel: Float[Tensor, "#H #P T"], resets: Resets | None) -> Tensor:
    """Convolve [B L H P]; channels that share a kernel share its spectrum."""
    heads, width = inputs.shape[2:]
    if kernel.shape[:2] == (1, 1):
        views, kernels = inputs.reshape(*inputs.shape[:2], 1, heads * width), kernel[0]
    elif kernel.shape[1] == 1:
        views, kernels = inputs, kernel[:, 0].expand(heads, -1)
    else:
        views = inputs.reshape(*inputs.shape[:2], heads * width, 1)
        kernels = kernel.expand(heads, width, -1).flatten(0, 1)
    if resets is None:
        outputs = causal_convolution(views, kernels)
    else:
        outputs = by_sequence(lambda piece: causal_convolution(piece, kernels[:, : piece.shape[1]]), views, resets)
    return outputs.reshape(*outputs.shape[:2], heads, width)


class _Diagonal:
    """Kernel, fading memory and final memory of constant modes."""

    def __init__(self, spec: RecurrenceSpec, structure: Diagonal, expand: Rows, shrink: Rows, dtype: torch.dtype):
        size = spec.state_dim
        log, angle = structure.log(0, 1)[0, 0].mT.to(dtype), structure.angle(0, 1)
        if angle is not None:
            angle = angle[0, 0].mT.to(dtype)
            angle = angle.expand(*angle.shape[:2], size)
        self.modes = ConstantModes(log.expand(*log.shape[:2], size), angle)
        self.expand, self.shrink = expand, shrink
        self.exclusive = spec.exclusive
        complex_ = expand.is_complex() or self.modes.phase is not None
        self.doubled = 2 if spec.pairs and complex_ else 1

    def kernel(self, length: int) -> Tensor:
        """Re of shrink^T modes^j expand, [#H #P L]."""
        return self._evaluate(self.doubled * self.shrink * self.expand, length)

    def _evaluate(
        self,
        weights: Num[
            Tensor,
            (
                ...  # N
            ),
        ],
        length: int,
    ) -> Tensor:
        dtype = self.modes.log_decay.dtype
        weights = weights.to(dtype.to_complex() if weights.is_complex() else dtype)
        return evaluate(weights.expand(*weights.shape[:-1], self.modes.log_decay.shape[-1]), self.modes, length)

    def decayed(self, memory: Tensor, length: int) -> Tensor:
        """The outputs of a memory [B H P N] at every step, [B H P L]."""
        weights = self.doubled * self.shrink * memory
        return self._evaluate(weights if self.exclusive else weights * power(self.modes, 1), length)

    def final(self, inputs: Tensor, memory: Tensor | None) -> Tensor:
        """The memory [B H P N] after inputs [B H P L]."""
        final = accumulate(inputs.flip(-1), self.modes) * self.expand
        return final if memory is None else final + power(self.modes, inputs.shape[-1]) * memory


class _Shift:
    """Kernel, fading memory and final memory of a shift register of the last N inputs."""

    def __init__(self, spec: RecurrenceSpec, expand: Rows, shrink: Rows, dtype: torch.dtype):
        size = spec.state_dim
        self.expand, self.shrink = (value.to(dtype).expand(*value.shape[:2], size) for value in (expand, shrink))
        # inputs that enter at the newest row only need no correlation of expand and shrink
        self.newest = not expand.requires_grad and not bool(self.expand[..., 1:].any())
        self.plain = self.newest and bool((self.expand[..., 0] == 1).all())
        self.exclusive = spec.exclusive
        self.size = good_size(2 * size)

    def _spectra(self, *values: Tensor) -> list[Tensor]:
        return [torch.fft.rfft(value, n=self.size) for value in values]

    def _correlate(self, taps: Tensor, rows: Tensor) -> Tensor:
        """Sum over r of taps[r + j] rows[r], for j < N."""
        first, second = self._spectra(taps, rows)
        return torch.fft.irfft(first * second.conj(), n=self.size)[..., : taps.shape[-1]]

    def kernel(self, length: int) -> Tensor:
        if self.plain:
            kernel = self.shrink
        else:
            kernel = self.shrink * self.expand[..., :1] if self.newest else self._correlate(self.shrink, self.expand)
        # a slice of everything would cost a copy in the backward pass
        return kernel if kernel.shape[-1] <= length else kernel[..., :length]

    def decayed(self, memory: Tensor, length: int) -> Tensor:
        """Outputs of a memory [B H P N] at every step, [B H P L]: rows moved down by t + 1, or by t if exclusive."""
        found = self._correlate(self.shrink, memory)
        found = found if self.exclusive else found[..., 1:]
        return F.pad(found, (0, max(0, length - found.shape[-1])))[..., :length]

    def final(self, inputs: Tensor, memory: Tensor | None) -> Tensor:
        """The memory [B H P N] after inputs [B H P L]."""
        count, length = self.shrink.shape[-1], inputs.shape[-1]
        recent = F.pad(inputs.flip(-1)[..., :count], (0, max(0, count - length)))
        if self.newest:
            final = recent * self.expand[..., :1]
        else:
            first, second = self._spectra(recent, self.expand)
            final = torch.fft.irfft(first * second, n=self.size)[..., :count]
        if memory is None or length >= count:
            return final
        return final + F.pad(memory[..., : count - length], (length, 0))
