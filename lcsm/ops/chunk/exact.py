"""One chunk for decays of any size: every exponent that is taken is a sum of log-decays, so <= 0.

A chunk is halved again and again; a later half reads an earlier one through the boundary between them. The rows (N) and
the columns (P) of the memory each have a `Within`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

from lcsm.ops.chunk.decay import Pass, Segments, Values
from lcsm.shapes import Float, Memory, Tensor

# A weight below exp(-80) is zero, as a decay is floored at -80: products with denormal numbers take 200 times as long.
SMALLEST_LOG = -80.0
SMALLEST = 2e-35

Pairs = Float[Tensor, "B H C C"]
Vectors = Float[Tensor, "B H C N"]
Columns = Float[Tensor, "B H C P"]


def weights_of(exponents: Tensor) -> Tensor:
    """exp of exponents <= 0, in place; exactly zero from exp(-80) down."""
    return F.threshold(exponents.clamp_min_(SMALLEST_LOG).exp_(), SMALLEST, 0.0, inplace=True)


def normal(values: Tensor) -> Tensor:
    """values, zero where they are almost denormal."""
    return F.hardshrink(values, SMALLEST)


@lru_cache(maxsize=64)
def _tables(length: int, width: int, exclusive: bool, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """The steps of its block that add up to the exponent of each row, [b b] for blocks of b rows.

    First from the chunk's start to the read of a row; from the write of a row to the chunk's end; then for halves of
    C/2, C/4, ... `width` rows, to the read from the end of the half before, or from the write to the end of its half;
    last, for blocks of `width` rows, of reads and writes relative to the middle of the block.
    """

    def steps(size: int) -> tuple[Tensor, Tensor, Tensor]:
        step = torch.arange(size, device=device)
        row = step[:, None]
        return step, row, step < row if exclusive else step <= row

    step, row, reached = steps(length)
    tables = [reached, step > row]
    half = length // 2
    while half >= width:
        step, row, reached = steps(2 * half)
        tables.append(torch.where(row >= half, (step >= half) & reached, (step > row) & (step < half)))
        half //= 2
    result = [table.to(dtype) for table in tables]
    if width > 1:
        step, row, reached = steps(width)
        middle = (step < width // 2).to(dtype)
        result += [reached.to(dtype) - middle, middle - (step <= row).to(dtype)]
    return result


def blocks(values: Tensor, size: int) -> Tensor:
    """View [B H C/b b N] of [B H C N]."""
    return values.view(*values.shape[:2], -1, size, values.shape[3])


def diagonal_blocks(pairs: Pairs, size: int) -> Tensor:
    """View [B H C/b b b] of the blocks on the diagonal of [B H C C]."""
    batch, heads, length, _ = pairs.shape
    count = length // size
    return pairs.view(batch, heads, count, size, count, size).diagonal(dim1=2, dim2=4).permute(0, 1, 4, 2, 3)


class Undecayed:
    """An axis that does not decay inside the chunk."""

    read: Tensor | None = None
    write: Tensor | None = None
    across: Tensor | None = None

    def pair(self, reads: Vectors, writes: Vectors) -> Pairs:
        """The share that row t reads of the write of row s, for s <= t; above the diagonal anything."""
        return reads @ writes.transpose(2, 3)

    def collect(self, weights: Pairs, writes: Vectors) -> Vectors:
        """The sum that row t reads from all rows: sum_s weights[t, s] decay[t, s] writes[s]."""
        return weights @ writes

    def scatter(self, weights: Pairs, reads: Vectors) -> Vectors:
        """The transpose of `collect`: sum_t weights[t, s] decay[t, s] reads[t]."""
        return weights.transpose(2, 3) @ reads


class Halves:
    """An axis with a decay for every entry.

    The exponents are summed directly, never as differences of long sums, so that they are as exact as the log-decays.

    Args:
        log_decay: log-decays of the chunk, [B C H N] with B, H, N or 1; C a power of two.
        exclusive: whether a row reads before its own decay and write.
        width: rows of the smallest halves, of which each is then taken relative to its middle; 1 for any decay.
    """

    def __init__(self, log_decay: Tensor, exclusive: bool, width: int) -> None:
        batch, length, heads, size = log_decay.shape
        self.width = min(width, length)
        self.exclusive = exclusive
        steps = log_decay.reshape(batch, length, heads * size)
        tables = _tables(length, self.width, exclusive, log_decay.device, log_decay.dtype)
        sums = steps.new_empty(len(tables), *steps.shape)
        for table, out in zip(tables, sums, strict=True):
            shape = (batch, -1, len(table), heads * size)
            torch.matmul(table, steps.view(shape), out=out.view(shape))
        middle = 0 if self.width == 1 else 2
        weights_of(sums[: len(tables) - middle])
        sums[len(tables) - middle :].exp_()
        factors = sums.view(-1, batch, length, heads, size).transpose(2, 3)
        self.read, self.write = factors[0], factors[1]
        self.across = weights_of(log_decay.sum(1)).view(batch, heads, 1, size)
        self.levels = []
        for level, factor in enumerate(factors[2 : len(factors) - middle]):
            half = length >> (level + 1)
            parts = blocks(factor, 2 * half)
            self.levels.append((half, parts[:, :, :, :half], parts[:, :, :, half:]))
        if middle:
            self.middle_read, self.middle_write = (blocks(factor, self.width) for factor in factors[-2:])

    def pair(self, reads: Vectors, writes: Vectors) -> Pairs:
        pairs = reads.new_zeros(*reads.shape[:3], reads.shape[2])
        if self.width > 1:
            read, write = blocks(reads, self.width) * self.middle_read, blocks(writes, self.width) * self.middle_write
            diagonal_blocks(pairs, self.width).copy_(read @ write.transpose(3, 4))
        elif not self.exclusive:
            pairs.diagonal(dim1=2, dim2=3).copy_(torch.linalg.vecdot(reads, writes))
        for half, early, late in self.levels:
            later = blocks(reads, 2 * half)[:, :, :, half:] * late
            earlier = blocks(writes, 2 * half)[:, :, :, :half] * early
            diagonal_blocks(pairs, 2 * half)[..., half:, :half] = later @ earlier.transpose(3, 4)
        return pairs

    def collect(self, weights: Pairs, writes: Vectors) -> Vectors:
        if self.width > 1:
            near = diagonal_blocks(weights, self.width) @ (blocks(writes, self.width) * self.middle_write)
            total = near.mul_(self.middle_read).view(writes.shape)
        else:
            total = self._diagonal(weights, writes)
        for half, early, late in self.levels:
            earlier = blocks(writes, 2 * half)[:, :, :, :half] * early
            lower = diagonal_blocks(weights, 2 * half)[..., half:, :half]
            blocks(total, 2 * half)[:, :, :, half:].addcmul_(lower @ earlier, late)
        return total

    def scatter(self, weights: Pairs, reads: Vectors) -> Vectors:
        if self.width > 1:
            near = diagonal_blocks(weights, self.width).transpose(3, 4) @ (blocks(reads, self.width) * self.middle_read)
            total = near.mul_(self.middle_write).view(reads.shape)
        else:
            total = self._diagonal(weights, reads)
        for half, early, late in self.levels:
            later = blocks(reads, 2 * half)[:, :, :, half:] * late
            lower = diagonal_blocks(weights, 2 * half)[..., half:, :half].transpose(3, 4)
            blocks(total, 2 * half)[:, :, :, :half].addcmul_(lower @ later, early)
        return total

    def _diagonal(self, weights: Pairs, values: Vectors) -> Vectors:
        """The share that each row reads of its own write, undecayed."""
        if self.exclusive:
            return torch.zeros_like(values)
        return values * weights.diagonal(dim1=2, dim2=3)[..., None]


class Scalar:
    """An axis with one decay per head: the decays of all pairs of rows, [B H C C], from `Halves`."""

    def __init__(self, log_decay: Tensor, exclusive: bool, width: int) -> None:
        inner = Halves(log_decay, exclusive, width)
        self.read, self.write, self.across = inner.read, inner.write, inner.across
        ones = torch.ones_like(self.read, memory_format=torch.contiguous_format)
        self.decays = inner.pair(ones, ones).tril_()

    def pair(self, reads: Vectors, writes: Vectors) -> Pairs:
        return (reads @ writes.transpose(2, 3)).mul_(self.decays)

    def collect(self, weights: Pairs, writes: Vectors) -> Vectors:
        return normal(weights * self.decays) @ writes

    def scatter(self, weights: Pairs, reads: Vectors) -> Vectors:
        return normal(weights * self.decays).transpose(2, 3) @ reads


Within = Undecayed | Halves | Scalar
UNDECAYED = Undecayed()


def filled(values: Tensor, axis: int) -> Tensor:
    """Contiguous, with zeros up to the next power of two along `axis`, counted from the last."""
    length = values.shape[axis]
    missing = (1 << (length - 1).bit_length()) - length
    return F.pad(values, (0, 0) * (-axis - 1) + (0, missing)) if missing else values.contiguous()


def within(log_decay: Tensor, exclusive: bool, width: int) -> list[Within]:
    """The exact form of one chunk's log-decays [B C H N]; `width` as for `Halves`."""
    steps = filled(log_decay, -3)
    return [Scalar(steps, exclusive, width) if steps.shape[3] == 1 else Halves(steps, exclusive, width)]


def times(values: Tensor, *factors: Tensor | None) -> Tensor:
    """values times the factors that are present."""
    for factor in factors:
        values = values if factor is None else values * factor
    return values


@dataclass(frozen=True)
class ExactChunk:
    """A chunk in this form; the same members as `MidpointChunk`.

    Args:
        rows, columns: decay along N and along P.
        segments: which rows belong together, filled up to a power of two; None without resets.
        exclusive: whether a row reads before its own decay and write.
    """

    rows: Within
    columns: Within
    segments: Segments | None
    exclusive: bool

    def forward(self, given: Values, memory: Memory, outputs: Columns) -> Memory:
        """Fill `outputs` [B H C P]; return the memory after the chunk, [B H N P]."""
        rows, columns = self.rows, self.columns
        shrink, expand, inputs = (filled(values, -2) for values in given)
        results = columns.collect(self._causal(rows.pair(shrink, expand)), inputs)
        results += times(times(shrink, rows.read, self._mask("first")) @ memory, columns.read)
        outputs.copy_(results[:, :, : outputs.shape[2]])
        writes = times(expand, rows.write, self._mask("last"))
        return self._carried(memory) + writes.transpose(2, 3) @ times(inputs, columns.write)

    def backward(
        self, given: Values, memory: Memory, d_outputs: Columns, d_memory: Memory, places: Values
    ) -> tuple[Memory, Pass, Pass, Pass]:
        """Fill `places` with the gradients.

        Returns:
            the gradient of the memory before the chunk; shrink, expand and inputs with their gradients.
        """
        rows, columns = self.rows, self.columns
        shrink, expand, inputs, d_outputs = (filled(values, -2) for values in (*given, d_outputs))
        weights = self._causal(rows.pair(shrink, expand))
        d_weights = self._causal(columns.pair(d_outputs, inputs))
        d_reads = times(d_outputs, columns.read, self._mask("first"))
        written = times(inputs, columns.write, self._mask("last"))
        kept = times(expand, rows.write, self._mask("last"))

        d_shrink = rows.collect(d_weights, expand) + times(d_reads @ memory.transpose(2, 3), rows.read)
        d_expand = rows.scatter(d_weights, shrink) + times(written @ d_memory.transpose(2, 3), rows.write)
        d_inputs = columns.scatter(weights, d_outputs) + times(kept @ d_memory, columns.write)
        d_before = self._carried(d_memory) + times(shrink, rows.read).transpose(2, 3) @ d_reads

        passes = []
        pairs = (Pass(shrink, d_shrink), Pass(expand, d_expand), Pass(inputs, d_inputs))
        for pair, place in zip(pairs, places, strict=True):
            passes.append(Pass(*(each[:, :, : place.shape[2]] for each in pair)))
            place.copy_(passes[-1].gradient)
        return d_before, passes[0], passes[1], passes[2]

    def _mask(self, rows: str) -> Tensor | None:
        return None if self.segments is None else getattr(self.segments, rows)

    def _carried(self, memory: Memory) -> Memory:
        """The decay of a memory over the whole chunk."""
        across = None if self.rows.across is None else self.rows.across.transpose(2, 3)
        return times(memory, across, self.columns.across, self._mask("whole"))

    def _causal(self, weights: Pairs) -> Pairs:
        """In place: zero where row t may not read row s."""
        weights = normal(weights.tril_(-1 if self.exclusive else 0))
        return weights if self.segments is None else weights.mul_(self.segments.same)
