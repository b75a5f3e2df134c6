"""The log-decays of a memory chunk by chunk: their forms, their range, their gradient; segments of packed rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F

from lcsm.shapes import Bool, Float, Resets, Tensor

# Tokens per chunk: enough for the full rate of the matrix products, few enough that pairs cost little; a power of two.
CHUNK = 64
# Blocks that a chunk is cut into where its decays are too strong to take it at once.
WIDTHS = (16, 4)
# Half a block may decay by this much (nats) for the block to be taken relative to its middle. The factors stay within
# exp(+-40), so that neither they nor the product of two of them overflows float32 or turns denormal, which would take
# 200 times as long.
MIDPOINT_RANGE = 40.0
# The factors of so many numbers are made at once: small heads share the cost of a call, large ones stay in the cache.
TOGETHER = 1 << 16

LogDecay = Float[Tensor, "#B #L #H #N"]
ColumnDecay = Float[Tensor, "#B #L #H #P"]
Vectors = Float[Tensor, "B H C N"]
Form = TypeVar("Form")
Maker = Callable[[Tensor], Sequence[Form]]


def spans(length: int) -> list[tuple[int, int]]:
    """Start and stop of every chunk."""
    return [(start, min(start + CHUNK, length)) for start in range(0, length, CHUNK)]


def divided(resets: Resets | None, length: int) -> list[bool]:
    """The chunks that hold a reset of any row."""
    if resets is None:
        return [False] * len(spans(length))
    return F.pad(resets.any(0), (0, -length % CHUNK)).view(-1, CHUNK).any(1).tolist()


class AxisDecay:
    """The log-decays of one axis of the memory.

    Args:
        log_decay: [B L H N], <= 0; any axis may have size 1.
        length: L.
    """

    def __init__(self, log_decay: LogDecay, length: int) -> None:
        self.log_decay = log_decay
        self.length = length
        self.constant = log_decay.shape[1] == 1
        self.made: dict[Any, tuple[int, Sequence[Any]]] = {}

    def half_sums(self, width: int) -> Tensor:
        """The strongest decay over half of any block of `width` rows of each chunk, [number of chunks], <= 0."""
        if self.constant:
            return (self.log_decay.amin() * (width // 2)).expand(-(-self.length // CHUNK))
        missing = -self.length % CHUNK
        steps = F.pad(self.log_decay, (0, 0, 0, 0, 0, missing)) if missing else self.log_decay
        sums = steps.unflatten(1, (-1, CHUNK * 2 // width, width // 2)).sum(3)
        return sums.amin((0, 2, 3, 4))

    def widths(self) -> list[int]:
        """Of each chunk, the largest blocks within which the factors relative to the middle stay in range."""
        result = torch.ones(-(-self.length // CHUNK), dtype=torch.long)
        for width in sorted(WIDTHS):
            result[(self.half_sums(width) >= -MIDPOINT_RANGE).cpu()] = width
        return result.tolist()

    def form(self, index: int, make: Maker[Form], together: int = 1) -> Form:
        """The form of chunk `index`.

        Args:
            make: turns log-decays [B L H N] of whole chunks, or of one shorter chunk, into a form for each; always the
                same object, as what it made is found by it.
            together: how many chunks to make at once where the decay varies in time; else one serves all.
        """
        whole = self.length // CHUNK
        if self.constant:
            steps = CHUNK if index < whole else self.length % CHUNK
            if (make, steps) not in self.made:
                self.made[make, steps] = 0, make(self.log_decay.expand(-1, steps, -1, -1))
            return self.made[make, steps][1][0]
        if index >= whole:
            return make(self.log_decay[:, whole * CHUNK :])[0]
        first = index // together * together
        if make not in self.made or self.made[make][0] != first:
            stop = min(first + together, whole)
            self.made[make] = first, make(self.log_decay[:, first * CHUNK : stop * CHUNK])
        return self.made[make][1][index - first]


@dataclass(frozen=True)
class Segments:
    """The mask of rows of a chunk in the same document, as numbers 0 and 1.

    Args:
        same: whether two rows are of one segment, [B 1 C C].
        first: whether a row still has the memory from before, [B 1 C 1].
        last: whether what a row writes outlives the chunk, [B 1 C 1].
        whole: whether the memory from before outlives the chunk, [B 1 1 1].
        carried: zero at resets, [B 1 C 1].
    """

    same: Float[Tensor, "B 1 C C"]
    first: Float[Tensor, "B 1 C 1"]
    last: Float[Tensor, "B 1 C 1"]
    whole: Float[Tensor, "B 1 1 1"]
    carried: Float[Tensor, "B 1 C 1"]

    @staticmethod
    def of(resets: Bool[Tensor, "B C"], dtype: torch.dtype) -> Segments:
        number = resets.cumsum(1)
        end = number[:, -1:]
        same = (number[:, :, None] == number[:, None, :]).to(dtype)[:, None]
        columns = (number == 0, number == end, end == 0, ~resets)
        return Segments(same, *(values.to(dtype)[:, None, :, None] for values in columns))


class Values(NamedTuple):
    """Shrink, expand and inputs of one chunk, or their gradients, [B H C .]."""

    shrink: Vectors
    expand: Vectors
    inputs: Vectors


class Pass(NamedTuple):
    """Something that was read or written and its gradient, [B H C N] both."""

    values: Vectors
    gradient: Vectors


def received(
    end: Float[Tensor, "B H N"], scalar: bool, rows: int, segments: Segments | None
) -> tuple[Float[Tensor, "... rows rows"], Float[Tensor, "B H #rows #N"]]:
    """Gradients of the log-decays of a chunk: from the shares of its steps, and from the memory at its end.

    Args:
        end: memory after the chunk times its gradient, summed over the other axis.
        scalar: whether one log-decay serves all of N.
        rows: C, steps of the chunk.
    """
    ends = (end.sum(2, keepdim=True) if scalar else end)[:, :, None]
    later = _not_before(rows, end.device, end.dtype)
    if segments is None:
        return later, ends
    return later * segments.same * segments.carried, ends * segments.last * segments.carried


@lru_cache(maxsize=32)
def _not_before(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Ones [C, C] where the column's step is not before the row's."""
    return torch.ones(length, length, dtype=dtype, device=device).triu()


class DecayGradient:
    """The gradient of the log-decays of one axis, collected chunk by chunk; `docs/chunk.md` derives it.

    Args:
        axis: the log-decays.
        values: anything of the full size [B L H N].
        exclusive: whether a row reads before its own decay and write.
    """

    def __init__(self, axis: AxisDecay, values: Float[Tensor, "B L H N"], exclusive: bool) -> None:
        batch, length, heads, _ = values.shape
        self.axis, self.exclusive = axis, exclusive
        self.room: Tensor | None = None
        self.scalar = axis.log_decay.shape[3] == 1
        self.total = values.new_zeros(batch, 1 if axis.constant else length, heads, axis.log_decay.shape[3])

    def add(self, start: int, stop: int, segments: Segments | None, reading: Pass, writing: Pass, end: Tensor) -> None:
        """Add the steps of one chunk.

        Args:
            reading, writing: what this axis reads and what it writes.
            end: memory after the chunk times its gradient, summed over the other axis, [B H N].
        """
        share = self._share(reading, writing)
        later, ends = received(end, self.scalar, share.shape[2], segments)
        if self.axis.constant:
            ends = ends.sum(2, keepdim=True) if segments is not None else ends * (stop - start)
            self.total += torch.matmul(later.sum(-2, keepdim=True), share).add_(ends).transpose(1, 2)
        else:
            gradient = torch.matmul(later, share)
            torch.add(gradient, ends, out=self.total[:, start:stop].transpose(1, 2))

    def _share(self, reading: Pass, writing: Pass) -> Vectors:
        """Reads times their gradients, one step later if exclusive, minus writes times theirs."""
        if self.room is None or self.room.shape != reading.values.shape:
            self.room = reading.values.new_empty(reading.values.shape)
        share = self._later(torch.mul(*reading, out=self.room)).addcmul_(*writing, value=-1)
        return share.sum(3, keepdim=True) if self.scalar else share

    def _later(self, read: Vectors) -> Vectors:
        return F.pad(read[:, :, 1:], (0, 0, 0, 1)) if self.exclusive else read

    def result(self) -> LogDecay:
        """In the shape of the log-decays."""
        return self.total.sum_to_size(self.axis.log_decay.shape)
