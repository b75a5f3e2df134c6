"""Kernels that are enlarged copies of a few taps, streamed through sliding sums: S d products per token instead of K.

A piece of d taps enlarged by f = 2^l is a sum of boxes (nearest) or of triangles and ramps (linear) of width f, and
sums of width 2 f are sums of two of width f. No running sum is subtracted from, so that rounding errors do not add up:

    box_2f(t)      = box_f(t) + box_f(t - f)                             box_f  = sum over i < f of x_{t-i}
    ramp_2f(t)     = ramp_f(t) + ramp_f(t - f) + f box_f(t - f)          ramp_f = sum over i < f of (i + 1/2) x_{t-i}
    triangle_2f(t) = triangle_f(t) + 2 triangle_f(t - f) + triangle_f(t - 2 f),   of height f, between two tokens

The K-tap kernel is that of SGConv (2210.09298); its code has no stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

from lcsm.errors import UsageError
from lcsm.ops.streaming.base import Convolver, Tape
from lcsm.shapes import Float, Int, Tensor

BOX, RAMP, TRIANGLE = range(3)


class Piece(NamedTuple):
    """Some taps, enlarged: the kernel at lags offset .. offset + d factor - 1.

    Args:
        weights: [d C].
        factor: a power of two.
        offset: lag of the first one.
    """

    weights: Float[Tensor, "d C"]
    factor: int
    offset: int


class Term(NamedTuple):
    """One product per token: weight [C] times a sliding sum of a level, `delay` tokens ago."""

    kind: int
    level: int
    delay: int
    weight: Float[Tensor, " C"]


@dataclass
class SummedTape(Tape):
    """A tape with its sliding sums.

    Args:
        sums: those of kind k and level l at row start[k][l] + position modulo their capacity, [rows B C].
    """

    sums: Float[Tensor, "rows B C"]


def enlarged(piece: Piece, mode: Literal["nearest", "linear"]) -> Float[Tensor, "T C"]:
    """The taps of a piece, half-pixel centres and constant edges as `torch.nn.functional.interpolate` has them."""
    return F.interpolate(piece.weights.t()[None], scale_factor=piece.factor, mode=mode)[0].t()


def assembled(pieces: list[Piece], mode: Literal["nearest", "linear"]) -> Float[Tensor, "K C"]:
    """The kernel that pieces give together."""
    found = [F.pad(enlarged(piece, mode), (0, 0, piece.offset, 0)) for piece in pieces]
    length = max(map(len, found))
    return torch.stack([F.pad(part, (0, 0, 0, length - len(part))) for part in found]).sum(0)


class Boxes(Convolver):
    """S d products per token, S pieces of d taps, and about 8 K numbers per channel.

    Args:
        pieces: what the kernel is the sum of.
        mode: how they are enlarged.
    """

    def __init__(self, pieces: list[Piece], mode: Literal["nearest", "linear"]) -> None:
        for piece in pieces:
            if piece.factor < 1 or piece.factor & (piece.factor - 1):
                raise UsageError(f"factor={piece.factor} must be a power of two")
        super().__init__(assembled(pieces, mode))
        self.capacity = len(self.taps)
        terms = [term for piece in pieces for term in terms_of(piece, mode)]
        self.levels = max(term.level for term in terms)
        self.kinds = 1 if mode == "nearest" else 3
        self.weights = torch.stack([term.weight for term in terms])[:, None].contiguous()
        self._lay_out(terms)

    def _lay_out(self, terms: list[Term]) -> None:
        """The place of each sum and the delays that are read; the recursion reads two steps of its level back."""
        deepest = [[2 << level for level in range(self.levels + 1)] for _ in range(self.kinds)]
        for term in terms:
            deepest[term.kind][term.level] = max(deepest[term.kind][term.level], term.delay)
        starts, sizes, rows = [], [], 0
        for kind in deepest:
            starts.append([rows + sum(delay + 1 for delay in kind[:level]) for level in range(len(kind))])
            sizes.append([delay + 1 for delay in kind])
            rows += sum(sizes[-1])
        self.rows = rows
        device = self.taps.device
        self.starts = torch.tensor(starts, device=device).flatten()
        self.sizes = torch.tensor(sizes, device=device).flatten()
        count = self.levels + 1
        self.term_sums = torch.tensor([term.kind * count + term.level for term in terms], device=device)
        self.term_delays = torch.tensor([term.delay for term in terms], device=device)
        # what the sums of each level but the last need of their past: f back, and 2 f back for triangles
        below = torch.arange(self.levels, device=device)
        steps = 1 << below
        kinds = [BOX, *([RAMP, TRIANGLE, TRIANGLE] if self.kinds == 3 else [])]
        self.past_sums = torch.cat([below + kind * count for kind in kinds])
        self.past_delays = torch.cat([steps * (2 if index == 3 else 1) for index in range(len(kinds))])
        self.factors = steps.to(self.taps.dtype)[:, None, None]

    def places(self, sums: Int[Tensor, " J"], delays: Int[Tensor, " J"] | int, position: int) -> Int[Tensor, " J"]:
        """Rows of the tape where sums lie that were made `delays` tokens before a position."""
        return self.starts[sums] + (position - delays) % self.sizes[sums]

    def step(self, x: Float[Tensor, "B C"], tape: Tape) -> Float[Tensor, "B C"]:
        assert isinstance(tape, SummedTape)
        now = tape.position - 1
        before = tape.inputs[(now - 1) % self.capacity]
        tape.inputs[now % self.capacity] = x
        past = tape.sums[self.places(self.past_sums, self.past_delays, now)]
        past = past.unflatten(0, (1 if self.kinds == 1 else 4, self.levels))
        newest = torch.cat(self.grown(x, before, past))
        everything = torch.arange(len(self.starts), device=x.device)
        tape.sums[self.places(everything, 0, now)] = newest
        return (tape.sums[self.places(self.term_sums, self.term_delays, now)] * self.weights).sum(0)

    def grown(self, x: Tensor, before: Tensor, past: Tensor) -> list[Tensor]:
        """The sums of every kind and level [levels + 1, ...] from an input, the one before and past sums."""
        boxes = chain(x, past[0])
        if self.kinds == 1:
            return [boxes]
        ramps = chain(x / 2, past[1] + self.factors * past[0])
        return [boxes, ramps, chain((x + before) / 2, 2 * past[2] + past[3])]

    def start(self, history: Float[Tensor, "B T C"]) -> Tape:
        inputs = self.remembered(history)
        # the rows before the oldest input that is held only enter sums that nothing reads any more
        sums = self.blank(history, self.rows)
        for kind, first in enumerate(self.past(inputs)):
            for level in range(self.levels + 1):
                index = kind * (self.levels + 1) + level
                times = torch.arange(-min(int(self.sizes[index]), self.capacity), 0, device=inputs.device)
                sums[self.places(torch.full_like(times, index), -times, 0)] = first[level][times]
        return SummedTape(0, inputs, sums)

    def past(self, inputs: Float[Tensor, "T B C"]) -> list[list[Tensor]]:
        """The sums of every kind and level at every held input."""
        boxes, ramps = [inputs], [inputs / 2]
        triangles = [(inputs + delayed(inputs, 1)) / 2]
        for level in range(self.levels):
            step = 1 << level
            boxes.append(boxes[-1] + delayed(boxes[-1], step))
            if self.kinds == 3:
                ramps.append(ramps[-1] + delayed(ramps[-1], step) + step * delayed(boxes[-2], step))
                last = triangles[-1]
                triangles.append(last + 2 * delayed(last, step) + delayed(last, 2 * step))
        return [boxes, ramps, triangles][: self.kinds]

    def state_size(self) -> int:
        return self.capacity + self.rows


def delayed(values: Float[Tensor, "T B C"], steps: int) -> Float[Tensor, "T B C"]:
    """Values some steps later, zeros before the first."""
    return F.pad(values, (0, 0, 0, 0, steps, 0))[: len(values)]


def chain(first: Float[Tensor, "B C"], increments: Float[Tensor, "S B C"]) -> Float[Tensor, "S+1 B C"]:
    """The first value and what it becomes by adding one increment after the other."""
    return torch.cat([first[None], increments]).cumsum(0)


def terms_of(piece: Piece, mode: Literal["nearest", "linear"]) -> list[Term]:
    """The sums that make a piece, every one at a delay of at least zero."""
    weights, factor, offset = piece
    level, count = factor.bit_length() - 1, len(weights)
    if mode == "nearest" or factor == 1 or count == 1:
        return [Term(BOX, level, offset + factor * index, weight) for index, weight in enumerate(weights)]
    half, last = factor // 2, offset + factor * (count - 1)
    # a flat half, then from one tap down to the next; hats; up to the last tap, and its flat half
    return [
        Term(BOX, level - 1, offset, weights[0]),
        Term(BOX, level, offset + half, weights[0]),
        Term(RAMP, level, offset + half, -weights[0] / factor),
        *(
            Term(TRIANGLE, level, offset + factor * index - half, weights[index] / factor)
            for index in range(1, count - 1)
        ),
        Term(RAMP, level, last - half, weights[-1] / factor),
        Term(BOX, level - 1, last + half, weights[-1]),
    ]
