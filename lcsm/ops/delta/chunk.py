"""One chunk of a memory that erases while it writes, forward and backward, for decays in either form of `chunk`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from lcsm.ops.chunk.decay import Segments
from lcsm.ops.chunk.exact import UNDECAYED, times
from lcsm.ops.delta.exact import Within
from lcsm.shapes import Float, Memory, Tensor

# What is left of a decay below this is zero; denormal numbers cost 200 times the time.
SMALLEST_WEIGHT = 1e-35

Pairs = Float[Tensor, "B H C C"]
Vectors = Float[Tensor, "B H C N"]
Values = Float[Tensor, "B H C P"]


class DeltaSteps(NamedTuple):
    """Queries, keys and values of the steps of a chunk, or their gradients.

    Args:
        shrink, right, left, expand: [B H C N]; left is None where expand is what is erased, at `beta`.
        inputs: [B H C P].
        beta: [B H C 1], None where left is given.
    """

    shrink: Vectors
    right: Vectors
    left: Vectors | None
    expand: Vectors
    inputs: Values
    beta: Float[Tensor, "B H C 1"] | None

    def directions(self) -> list[Vectors]:
        """The directions along which each step writes."""
        return [self.expand] if self.left is None else [self.left, self.expand]


class Solved(NamedTuple):
    """Tensors of a chunk that are saved for the backward pass.

    Args:
        inverse: of the unit triangular system, [B H C C].
        erased: right^T memory before each step, [B H C P].
    """

    inverse: Pairs
    erased: Values


@dataclass(frozen=True)
class DeltaChunk:
    """Decays between the steps of one chunk.

        erased_t = right_t^T memory_{t-1}
        written_t = left_t erased_t^T + expand_t inputs_t^T,   left_t = -beta_t expand_t where it is not given

    Args:
        before, at: decay of what `right` and `shrink` read.
        segments: which rows belong together, filled up to a power of two where decays are exact; None without resets.
        exclusive: whether a row is read before its own decay and write.
    """

    before: Within
    at: Within
    segments: Segments | None
    exclusive: bool

    def forward(self, steps: DeltaSteps, memory: Memory) -> tuple[Values, Memory, Solved]:
        """Outputs [B H C P], the memory after the chunk [B H N P], and what `backward` needs."""
        directions, inputs = steps.directions(), steps.inputs
        erased = self._start(self.before, steps.right) @ memory
        earlier = [self._earlier(steps.right, direction) for direction in directions]
        if steps.beta is not None:
            inverse = inverted(steps.beta * earlier[0])
            written = inverse @ torch.addcmul(inputs, steps.beta, erased, value=-1)
            erased = erased + earlier[0] @ written
            values = [written]
        else:
            inverse = inverted(-earlier[0])
            erased = inverse @ (erased + earlier[1] @ inputs)
            values = [erased, inputs]
        outputs = self._start(self.at, steps.shrink) @ memory
        memory = self._carried(memory)
        for direction, value in zip(directions, values, strict=True):
            outputs += self._reached(steps.shrink, direction) @ value
            memory = memory + self._end(direction).mT @ value
        return outputs, memory, Solved(inverse, erased)

    def backward(
        self, steps: DeltaSteps, memory: Memory, solved: Solved, d_outputs: Values, d_memory: Memory
    ) -> tuple[DeltaSteps, Memory]:
        """Gradients of the steps and of the memory before the chunk."""
        directions, inputs = steps.directions(), steps.inputs
        inverse, erased = solved
        beta, d_beta = steps.beta, None
        if beta is None:
            values = [erased, inputs]
        else:
            values = [torch.addcmul(inputs, beta, erased, value=-1)]
        d_values = [
            self._reached(steps.shrink, direction).mT @ d_outputs + self._end(direction) @ d_memory
            for direction in directions
        ]
        d_erased = inverse.mT @ d_values[0]
        if beta is None:
            d_inputs = d_values[1] + self._earlier(steps.right, steps.expand).mT @ d_erased
        else:
            d_inputs = d_erased
            d_beta = -torch.linalg.vecdot(d_inputs, erased)[..., None]
            d_erased = -beta * d_inputs
        right, shrink = self._start(self.before, steps.right), self._start(self.at, steps.shrink)
        d_right = times(d_erased @ memory.mT, self.before.read, self._mask("first"))
        d_shrink = times(d_outputs @ memory.mT, self.at.read, self._mask("first"))
        d_directions = []
        for direction, value in zip(directions, values, strict=True):
            d_earlier = self._causal(d_erased @ value.mT, True)
            d_reached = self._causal(d_outputs @ value.mT, self.exclusive)
            d_right += self.before.collect(d_earlier, direction)
            d_shrink += self.at.collect(d_reached, direction)
            d_direction = times(value @ d_memory.mT, self.at.write, self._mask("last"))
            d_direction += self.before.scatter(d_earlier, steps.right)
            d_directions.append(d_direction.add_(self.at.scatter(d_reached, steps.shrink)))
        d_before = self._carried(d_memory) + right.mT @ d_erased + shrink.mT @ d_outputs
        d_left = d_directions[0] if beta is None else None
        return DeltaSteps(d_shrink, d_right, d_left, d_directions[-1], d_inputs, d_beta), d_before

    def _mask(self, rows: str) -> Tensor | None:
        return None if self.segments is None else getattr(self.segments, rows)

    def _start(self, decay: Within, reads: Vectors) -> Vectors:
        """The readers of the memory at the start of the chunk, with their decays."""
        return times(reads, decay.read, self._mask("first"))

    def _end(self, writes: Vectors) -> Vectors:
        """The decay of each write until the end of the chunk."""
        return times(writes, self.at.write, self._mask("last"))

    def _carried(self, memory: Memory) -> Memory:
        """The decay of a memory over the whole chunk."""
        across = None if self.at.across is None else self.at.across.mT
        return times(memory, across, self._mask("whole"))

    def _earlier(self, right: Vectors, direction: Vectors) -> Pairs:
        """The share of each earlier write that a later step erases."""
        return self._causal(self.before.pair(right, direction), True)

    def _reached(self, shrink: Vectors, direction: Vectors) -> Pairs:
        """The share of each write that a later step, or the step itself, reads."""
        return self._causal(self.at.pair(shrink, direction), self.exclusive)

    def _causal(self, pairs: Pairs, strict: bool) -> Pairs:
        """In place: zero, by assignment since what is there may be anything, where row t may not see row s."""
        pairs.tril_(-1 if strict else 0)
        if self.at is not UNDECAYED:
            pairs = F.hardshrink(pairs, SMALLEST_WEIGHT)
        return pairs if self.segments is None else pairs.mul_(self.segments.same)


def inverted(lower: Float[Tensor, "*heads C C"]) -> Float[Tensor, "*heads C C"]:
    """Inverse of the identity plus a strictly lower triangle.

    Substitution row by row: powers of the triangle (a Neumann series) are as fast but useless where keys repeat, since
    they grow like binomial coefficients before they cancel.
    """
    identity = torch.eye(lower.shape[-1], dtype=lower.dtype, device=lower.device)
    return torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False, unitriangular=True)
