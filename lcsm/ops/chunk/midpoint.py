"""One chunk for a short range of decays: what goes in and out is scaled relative to the middle of the chunk.

Between the scaled values there is no decay, so that a chunk is four plain matrix products forward and nine backward,
whatever decays. `Workspace` keeps every intermediate in place, and so in the cache, from chunk to chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import torch

from lcsm.ops.chunk.decay import CHUNK, Pass, Segments, Values
from lcsm.shapes import Float, Memory, Tensor

Vectors = Float[Tensor, "B H C N"]
Columns = Float[Tensor, "B H C P"]
FlatMemory = Float[Tensor, "G N P"]


class Buffer(NamedTuple):
    """A contiguous buffer and its view with batch and heads in one axis, as bmm wants it."""

    full: Vectors
    flat: Tensor


class Workspace:
    """Named buffers for one length of chunk that live as long as one call."""

    def __init__(self) -> None:
        self.buffers: dict[str, Buffer] = {}

    def buffer(self, name: str, like: Tensor, *shape: int) -> Buffer:
        """An uninitialised buffer [B H C N], the same one whenever name and shape are the same."""
        kept = self.buffers.get(name)
        if kept is None or kept.full.shape != shape:
            full = like.new_empty(shape)
            kept = self.buffers[name] = Buffer(full, full.view(-1, *shape[2:]))
        return kept

    def scaled(self, name: str, values: Vectors, *factors: Tensor | None) -> Buffer:
        """values times the factors that are present."""
        room = self.buffer(name, values, *values.shape)
        present = [factor for factor in factors if factor is not None]
        if present:
            torch.mul(values, present[0], out=room.full)
        else:
            room.full.copy_(values)
        for factor in present[1:]:
            room.full.mul_(factor)
        return room

    def product(self, name: str, like: Buffer, left: Tensor, right: Tensor) -> Buffer:
        """left @ right, with as many heads as `like`."""
        room = self.buffer(name, left, *like.full.shape[:2], left.shape[1], right.shape[2])
        torch.bmm(left, right, out=room.flat)
        return room


@lru_cache(maxsize=32)
def _midpoint_sums(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Table [C + 1, C]: row j sums the steps before j, counted from the middle of a whole chunk."""
    step, boundary = torch.arange(length), torch.arange(length + 1)[:, None]
    return ((step < boundary).to(dtype) - (step < CHUNK // 2).to(dtype)).to(device)


class Midpoint(NamedTuple):
    """Factors of one chunk relative to its middle.

    Args:
        read, write: for what row t reads and writes, [B H C N].
        before, after: for the memory at the chunk's start and end, [B H 1 N].
    """

    read: Tensor
    write: Tensor
    before: Tensor
    after: Tensor

    def turned(self) -> Midpoint:
        """With the factors of the memory as [B H N 1], for its rows."""
        return self._replace(before=self.before.transpose(2, 3), after=self.after.transpose(2, 3))


def midpoints(log_decay: Tensor, exclusive: bool = False) -> list[Midpoint]:
    """The factors of several chunks from their log-decays, [B L H N] with L a multiple of 64, or one shorter chunk."""
    batch, length, heads, size = log_decay.shape
    length = min(length, CHUNK)
    table = _midpoint_sums(length, log_decay.device, log_decay.dtype)
    sums = torch.matmul(table, log_decay.reshape(batch, -1, length, heads * size))
    grown = sums.exp_().view(batch, -1, length + 1, heads, size).transpose(2, 3)
    shrunk = grown.reciprocal()
    read = grown[:, :, :, :-1] if exclusive else grown[:, :, :, 1:]
    factors = (read, shrunk[:, :, :, 1:], shrunk[:, :, :, :1], grown[:, :, :, -1:])
    return [Midpoint(*each) for each in zip(*(factor.unbind(1) for factor in factors), strict=True)]


@dataclass(frozen=True)
class MidpointChunk:
    """A chunk in this form.

    Args:
        rows, columns: factors along N (`turned`) and along P, None where nothing decays.
        segments: which rows belong together, None without resets.
        exclusive: whether a row reads before its own decay and write.
    """

    rows: Midpoint | None
    columns: Midpoint | None
    segments: Segments | None
    exclusive: bool
    work: Workspace = field(repr=False)

    def forward(self, given: Values, memory: Memory, outputs: Columns) -> Memory:
        """Fill `outputs` [B H C P]; return the memory after the chunk, [B H N P]."""
        work, rows, columns = self.work, self.rows, self.columns
        reads = work.scaled("shrink", given.shrink, rows and rows.read)
        writes = work.scaled("expand", given.expand, rows and rows.write)
        values = work.scaled("inputs", given.inputs, columns and columns.write)
        before = self._memory(memory)
        weights = self._causal("weights", reads, writes)
        results = work.product("results", reads, weights.flat, values.flat)
        results.flat.baddbmm_(self._masked(reads, "first"), before)
        _write(outputs, results, columns and columns.read)

        written = self._masked(writes, "last").transpose(1, 2)
        return self._carried(before, written, values.flat, rows and rows.after, columns and columns.after, memory.shape)

    def backward(
        self, given: Values, memory: Memory, d_outputs: Columns, d_memory: Memory, places: Values
    ) -> tuple[Memory, Pass, Pass, Pass]:
        """Fill `places` with the gradients.

        Returns:
            the gradient of the memory before the chunk; shrink, expand and inputs with their gradients, scaled, which
            the next call overwrites.
        """
        work, rows, columns = self.work, self.rows, self.columns
        reads = work.scaled("shrink", given.shrink, rows and rows.read)
        writes = work.scaled("expand", given.expand, rows and rows.write)
        values = work.scaled("inputs", given.inputs, columns and columns.write)
        d_results = work.scaled("d_outputs", d_outputs, columns and columns.read)
        before, after = self._memory(memory), d_memory.flatten(0, 1)
        if rows is not None or columns is not None:
            after = work.scaled("after", d_memory, rows and rows.after, columns and columns.after).flat

        weights = self._causal("weights", reads, writes)
        d_weights = self._causal("d_weights", d_results, values)
        d_reads = work.product("d_shrink", reads, d_weights.flat, writes.flat)
        d_writes = work.product("d_expand", reads, d_weights.flat.transpose(1, 2), reads.flat)
        d_values = work.product("d_inputs", reads, weights.flat.transpose(1, 2), d_results.flat)
        first = self._masked(d_results, "first")
        d_reads.flat.baddbmm_(first, before.transpose(1, 2))
        d_writes.flat.baddbmm_(self._masked(values, "last"), after.transpose(1, 2))
        d_values.flat.baddbmm_(self._masked(writes, "last"), after)
        _write(places.shrink, d_reads, rows and rows.read)
        _write(places.expand, d_writes, rows and rows.write)
        _write(places.inputs, d_values, columns and columns.write)

        read = reads.flat.transpose(1, 2)
        factors = rows and rows.before, columns and columns.before
        return (
            self._carried(after, read, first, *factors, memory.shape),
            Pass(reads.full, d_reads.full),
            Pass(writes.full, d_writes.full),
            Pass(values.full, d_values.full),
        )

    def _memory(self, memory: Memory) -> FlatMemory:
        """The memory before the chunk, scaled."""
        rows, columns = self.rows, self.columns
        if rows is None and columns is None:
            return memory.flatten(0, 1)
        return self.work.scaled("before", memory, rows and rows.before, columns and columns.before).flat

    def _causal(self, name: str, left: Buffer, right: Buffer) -> Buffer:
        """left right^T where row t may read row s, else zero: by assignment, since above the diagonal is anything."""
        pairs = self.work.product(name, left, left.flat, right.flat.transpose(1, 2))
        pairs.flat.tril_(-1 if self.exclusive else 0)
        if self.segments is not None:
            pairs.full.mul_(self.segments.same)
        return pairs

    def _masked(self, values: Buffer, rows: str) -> Tensor:
        """values, zero outside of the first or the last segment."""
        if self.segments is None:
            return values.flat
        mask: Tensor = getattr(self.segments, rows)
        return (values.full * mask).flatten(0, 1)

    def _carried(
        self,
        memory: FlatMemory,
        left: Tensor,
        right: Tensor,
        row: Tensor | None,
        column: Tensor | None,
        shape: torch.Size,
    ) -> Memory:
        """(what is left of a memory or its gradient + left @ right) times the factors, as a new tensor [B H N P]."""
        if self.segments is not None:
            memory = (memory.view(shape) * self.segments.whole).flatten(0, 1)
        factors = [factor for factor in (row, column) if factor is not None]
        if not factors:
            return torch.baddbmm(memory, left, right).view(shape)
        # where there are factors, `memory` is a buffer
        total = memory.baddbmm_(left, right).view(shape) * factors[0]
        return total if len(factors) == 1 else total.mul_(factors[1])


def _write(place: Vectors, values: Buffer, factor: Tensor | None) -> None:
    """place = values times the factor."""
    if factor is None:
        place.copy_(values.full)
    else:
        torch.mul(values.full, factor, out=place)
