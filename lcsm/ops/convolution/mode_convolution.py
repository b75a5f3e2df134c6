"""Modes that are constant in time, whatever is written into them: every memory entry convolved by FFT on its own.

    memory = factor^j * (expand input^T)        "disentangle, then FFT" where the entries are modes of one system

Offered because LDNN states its cost for it; `lockstep` does the same in fewer operations, but step after step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from lcsm.ops.convolution.fourier import causal_convolution
from lcsm.ops.convolution.packing import by_sequence
from lcsm.ops.convolution.vandermonde import ConstantModes, Parts, levels
from lcsm.ops.reference import blank_memory, extents, read_all
from lcsm.ops.spec import RecurrenceSpec
from lcsm.shapes import Factor, Float, Inputs, Memory, Reads, Resets, Tensor, Writes
from lcsm.structures import Diagonal


def mode_convolution(
    spec: RecurrenceSpec,
    structure: Diagonal,
    inputs: Inputs,
    expand: Writes,
    shrink: Factor,
    memory: Memory | None = None,
    keep: bool = False,
    resets: Resets | None = None,
) -> tuple[Reads, Memory | None]:
    """Powers of the factor, convolved with what is written; arguments and results as in `ops.reference`.

    All memories are built, [B L H N P], and their spectra.

    Source: LDNN (2402.15290), O(L N max(D, log L)) together with the products B x and C m.
    """
    batch, length = extents(structure, inputs, expand, shrink)
    blank = blank_memory(spec, structure, inputs, expand, batch)
    before = blank if memory is None else memory.to(torch.promote_types(blank.dtype, memory.dtype))
    written = (expand * inputs.unsqueeze(3)).expand(batch, length, *before.shape[1:])
    powers = _powers(structure, before.shape[1:], length + 1, before.dtype.to_real())
    memories = _convolve(_each(powers, lambda part: part[..., :length]), written, resets)
    if memory is not None:
        carried = powers.whole()[..., 1:].movedim(-1, 0) * before.unsqueeze(1)
        if resets is not None:
            carried = carried.masked_fill(resets.cumsum(1).bool()[..., None, None, None], 0)
        memories = memories + carried
    return read_all(spec, memories, before, shrink, keep, resets)


def _powers(structure: Diagonal, entries: torch.Size, count: int, dtype: torch.dtype) -> Parts:
    """The factor to the powers 0 .. count - 1, [H N P count]; `entries` are the sizes of H, N and P."""
    log, angle = structure.log(0, 1)[0, 0].to(dtype), structure.angle(0, 1)
    modes = ConstantModes(log.expand(entries), None if angle is None else angle[0, 0].to(dtype).expand(entries))
    fine, coarse = levels(modes, count)
    # [H N L/T 1 P] times [H N 1 T P]
    found = _each(coarse, lambda part: part.unsqueeze(-2)).times(_each(fine, lambda part: part.unsqueeze(-3)))
    return _each(found, lambda part: part.flatten(-3, -2).movedim(-2, -1)[..., :count])


def _each(parts: Parts, change: Callable[[Tensor], Tensor]) -> Parts:
    return Parts(change(parts.real), None if parts.imaginary is None else change(parts.imaginary))


def _convolve(kernel: Parts, written: Tensor, resets: Resets | None) -> Tensor:
    """The writes, [B L H N P], convolved with the kernels [H N P L] of its entries."""
    # real and imaginary part of what is written share a kernel, [B L K R]
    pair = written.is_complex()
    values = torch.view_as_real(written.resolve_conj()) if pair else written.unsqueeze(-1)
    values = values.flatten(2, 4)

    def through(part: Float[Tensor, "H N P L"]) -> Tensor:
        taps = part.flatten(0, 2).to(values.dtype)
        if resets is None:
            found = causal_convolution(values, taps)
        else:
            found = by_sequence(lambda piece: causal_convolution(piece, taps[:, : piece.shape[1]]), values, resets)
        return torch.view_as_complex(found.contiguous()) if pair else found.squeeze(-1)

    found = through(kernel.real)
    if kernel.imaginary is not None:
        turned = through(kernel.imaginary)
        found = found + 1j * turned if pair else torch.complex(found, turned)
    return found.unflatten(2, written.shape[2:])
