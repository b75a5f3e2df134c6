"""The loop over the chunks of `delta` and its backward pass, which keeps what every chunk solved."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from lcsm.ops.chunk.decay import (
    CHUNK,
    MIDPOINT_RANGE,
    TOGETHER,
    AxisDecay,
    LogDecay,
    Segments,
    divided,
    received,
    spans,
)
from lcsm.ops.chunk.exact import UNDECAYED, filled
from lcsm.ops.chunk.midpoint import midpoints
from lcsm.ops.delta.chunk import DeltaChunk, DeltaSteps, Solved
from lcsm.ops.delta.exact import MAKERS
from lcsm.shapes import Float, Memory, Outputs, Resets, Tensor

Rows = Float[Tensor, "B L H N"]
Piece = Float[Tensor, "B H C N"]


class MidpointScale(NamedTuple):
    """Factors relative to the middle of a chunk, within which nothing decays then.

    Args:
        shrink, right, write: for what `shrink` and `right` read and for what is written, [B H C N].
        start, end: for the memory at the chunk's start and end, [B H N 1].
    """

    shrink: Tensor
    right: Tensor
    write: Tensor
    start: Tensor
    end: Tensor

    def of(self) -> DeltaSteps:
        """The factor of each member of `DeltaSteps`."""
        return DeltaSteps._make([self.shrink, self.right, self.write, self.write, None, None])


UNSCALED = DeltaSteps._make([None] * 6)


class DeltaPlan:
    """The chunks of one call, each in the form that its decays allow.

    Args:
        length: number of steps, L.
        decay: log-decays [B L H N], None where nothing decays.
        resets, exclusive: as in `run`.
    """

    def __init__(self, length: int, decay: LogDecay | None, resets: Resets | None, exclusive: bool) -> None:
        self.spans, self.divided = spans(length), divided(resets, length)
        self.decay, self.resets, self.exclusive = decay, resets, exclusive
        self.exact = [False] * len(self.spans)
        if decay is not None:
            self.axis = AxisDecay(decay, length)
            self.exact = (self.axis.half_sums(CHUNK) < -MIDPOINT_RANGE).tolist()
            self.widths = self.axis.widths() if any(self.exact) else []

    def chunk(self, index: int, dtype: torch.dtype) -> DeltaChunk:
        """Decays between the steps of chunk `index`."""
        segments = self.segments(index, dtype, self.exact[index])
        if not self.exact[index]:
            return DeltaChunk(UNDECAYED, UNDECAYED, segments, self.exclusive)
        readers = self.axis.form(index, MAKERS[self.widths[index]])
        after = readers.before if self.exclusive else readers.after
        return DeltaChunk(readers.before, after, segments, self.exclusive)

    def scale(self, index: int) -> MidpointScale | None:
        """The factors of chunk `index`; None where nothing decays, or too much for them."""
        if self.decay is None or self.exact[index]:
            return None
        batch, _, heads, size = self.decay.shape
        late = self.axis.form(index, midpoints, max(1, TOGETHER // (batch * CHUNK * heads * size)))
        early = torch.cat([late.before.reciprocal(), late.read[:, :, :-1]], 2)
        return MidpointScale(early if self.exclusive else late.read, early, late.write, late.before.mT, late.after.mT)

    def take(self, index: int, pieces: DeltaSteps, scale: MidpointScale | None) -> DeltaSteps:
        """The steps of a chunk from views [B H C N], contiguous: scaled, or filled up where decays are exact."""
        factors = UNSCALED if scale is None else scale.of()
        taken: list[Tensor | None] = []
        for values, factor in zip(pieces, factors, strict=True):
            if values is None:
                taken.append(None)
            elif factor is not None:
                taken.append(torch.mul(values, factor, out=values.new_empty(values.shape)))
            else:
                taken.append(self.complete(index, values))
        return DeltaSteps._make(taken)

    def complete(self, index: int, values: Float[Tensor, "B H C _"]) -> Float[Tensor, "B H rows _"]:
        """Contiguous, with rows of zeros up to a power of two where decays are exact."""
        return filled(values, -2) if self.exact[index] else values.contiguous()

    def segments(self, index: int, dtype: torch.dtype, fill: bool = False) -> Segments | None:
        """The mask of rows of a chunk in the same document; None if all are."""
        if self.resets is None or not self.divided[index]:
            return None
        start, stop = self.spans[index]
        resets = self.resets[:, start:stop]
        return Segments.of(filled(resets[..., None], -2)[..., 0] if fill else resets, dtype)


def pieces_of(steps: DeltaSteps) -> list[DeltaSteps]:
    """Views of every chunk, heads first: [B H C N]."""
    split = [None if values is None else values.transpose(1, 2).split(CHUNK, 2) for values in steps]
    count = -(-steps.inputs.shape[1] // CHUNK)
    return [DeltaSteps._make(None if views is None else views[index] for views in split) for index in range(count)]


def run(
    shrink: Rows,
    right: Rows,
    left: Rows | None,
    expand: Rows,
    inputs: Float[Tensor, "B L H P"],
    beta: Float[Tensor, "B L H 1"] | None,
    memory: Memory,
    decay: LogDecay | None,
    resets: Resets | None,
    exclusive: bool,
    *,
    kept: list[tuple[Memory, Solved]] | None = None,
) -> tuple[Outputs, Memory]:
    """The recurrence without gradients.

    Args:
        shrink, right, left, expand, inputs, beta: as in `DeltaSteps`, but [B L H N], of one dtype.
        memory: [B H N P].
        decay: log-decays, per head or along N; None where nothing decays.
        resets: True where the memory from before the step is forgotten, [B L].
        exclusive: whether a step reads before its own decay and write.
        kept: receives the memory before every chunk, scaled, and what the chunk solved.
    Returns:
        outputs [B L H P] and the final memory.
    """
    plan = DeltaPlan(inputs.shape[1], decay, resets, exclusive)
    outputs = inputs.new_empty(inputs.shape)
    places = outputs.transpose(1, 2).split(CHUNK, 2)
    for index, pieces in enumerate(pieces_of(DeltaSteps(shrink, right, left, expand, inputs, beta))):
        scale = plan.scale(index)
        memory = memory if scale is None else memory * scale.start
        found, after, solved = plan.chunk(index, inputs.dtype).forward(plan.take(index, pieces, scale), memory)
        if kept is not None:
            kept.append((memory, solved))
        places[index].copy_(found[:, :, : places[index].shape[2]])
        memory = after if scale is None else after * scale.end
    return outputs, memory


class DeltaRecurrence(torch.autograd.Function):
    """`run` with its own backward pass: linear in L in time and memory."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Outputs, Memory]:
        *steps, _, decay, resets, ctx.exclusive = arguments
        kept: list[tuple[Memory, Solved]] = []
        outputs, final = run(*arguments, kept=kept)
        ctx.set_materialize_grads(False)
        flat = [tensor for memory, solved in kept for tensor in (memory, *solved)]
        ctx.save_for_backward(*steps, decay, resets, final, *flat)
        return outputs, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor | None, d_memory: Tensor | None) -> tuple[Tensor | None, ...]:
        steps = DeltaSteps._make(ctx.saved_tensors[:6])
        decay, resets, after, *flat = ctx.saved_tensors[6:]
        plan = DeltaPlan(steps.inputs.shape[1], decay, resets, ctx.exclusive)
        # an output that nobody used has no gradient
        d_outputs = steps.inputs.new_zeros(()).expand(steps.inputs.shape) if d_outputs is None else d_outputs
        d_memory = torch.zeros_like(after) if d_memory is None else d_memory
        found = DeltaSteps._make(None if values is None else values.new_empty(values.shape) for values in steps)
        d_decay = DeltaDecayGradient(plan, decay, steps) if ctx.needs_input_grad[7] else None
        views = list(zip(pieces_of(steps), pieces_of(found), d_outputs.transpose(1, 2).split(CHUNK, 2), strict=True))
        with torch.autocast(steps.inputs.device.type, enabled=False):
            for index in reversed(range(len(plan.spans))):
                pieces, places, d_read = views[index]
                memory, solved = flat[3 * index], Solved(*flat[3 * index + 1 : 3 * index + 3])
                scale = plan.scale(index)
                if d_decay is not None:
                    end = (d_memory * after).sum(3)
                d_memory = d_memory if scale is None else d_memory * scale.end
                taken = plan.take(index, pieces, scale)
                gradients, d_memory = plan.chunk(index, steps.inputs.dtype).backward(
                    taken, memory, solved, plan.complete(index, d_read), d_memory
                )
                if d_decay is not None:
                    d_decay.add(index, taken, gradients, end)
                _put(places, gradients, scale)
                after = memory
                if scale is not None:
                    d_memory, after = d_memory * scale.start, memory / scale.start
        return *found, d_memory, None if d_decay is None else d_decay.result(), None, None


def _put(places: DeltaSteps, gradients: DeltaSteps, scale: MidpointScale | None) -> None:
    """Fill the places [B H C N] with the gradients, unscaled and cut."""
    factors = UNSCALED if scale is None else scale.of()
    for place, gradient, factor in zip(places, gradients, factors, strict=True):
        if place is not None and gradient is not None:
            gradient = gradient[:, :, : place.shape[2]]
            place.copy_(gradient) if factor is None else torch.mul(gradient, factor, out=place)


class DeltaDecayGradient:
    """The gradient of the log-decays, collected chunk by chunk; `docs/delta.md` derives it.

    Args:
        plan: the chunks.
        decay: log-decays [B L H N].
        steps: all steps, [B L H N].
    """

    def __init__(self, plan: DeltaPlan, decay: LogDecay, steps: DeltaSteps) -> None:
        self.plan, self.shape = plan, decay.shape
        self.scalar = decay.shape[3] == 1
        self.total = decay.new_zeros(*steps.expand.shape[:3], decay.shape[3])

    def add(self, index: int, steps: DeltaSteps, gradients: DeltaSteps, end: Float[Tensor, "B H N"]) -> None:
        """Add the steps of one chunk.

        Args:
            steps, gradients: those of the chunk, scaled or not.
            end: memory after the chunk times its gradient, summed along P.
        """
        start, stop = self.plan.spans[index]
        # what reads before a step reads after the step before it
        early, share = self._share(steps.right, gradients.right), self._share(steps.shrink, gradients.shrink)
        if self.plan.exclusive:
            early, share = early + share, torch.zeros_like(share)
        share = share + F.pad(early[:, :, 1:], (0, 0, 0, 1))
        for direction, gradient in zip(steps.directions(), gradients.directions(), strict=True):
            share = share - self._share(direction, gradient)
        share = share[:, :, : stop - start]
        later, ends = received(end, self.scalar, stop - start, self.plan.segments(index, share.dtype))
        self.total[:, start:stop].copy_((later @ share + ends).transpose(1, 2))

    def _share(self, values: Piece, gradient: Piece) -> Float[Tensor, "B H C #N"]:
        return torch.linalg.vecdot(values, gradient)[..., None] if self.scalar else values * gradient

    def result(self) -> LogDecay:
        """In the shape of the log-decays."""
        return self.total.sum_to_size(self.shape)
