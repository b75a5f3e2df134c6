"""The loop over chunks and its backward pass, which keeps the memories between the chunks and recomputes the rest."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from lcsm.ops.chunk.decay import (
    CHUNK,
    MIDPOINT_RANGE,
    TOGETHER,
    WIDTHS,
    AxisDecay,
    DecayGradient,
    Pass,
    Segments,
    Values,
    divided,
    spans,
)
from lcsm.ops.chunk.exact import UNDECAYED, ExactChunk, Within, filled, within
from lcsm.ops.chunk.midpoint import Midpoint, MidpointChunk, Workspace, midpoints
from lcsm.shapes import Float, Memory, Outputs, Resets, Tensor

EXACT = {
    (width, exclusive): partial(within, exclusive=exclusive, width=width)
    for width in (*WIDTHS, 1)
    for exclusive in (False, True)
}
MIDPOINTS = {exclusive: partial(midpoints, exclusive=exclusive) for exclusive in (False, True)}

Steps = Float[Tensor, "B L H N"]


class Call(NamedTuple):
    """The arguments of one call, tensors of one dtype.

    Args:
        shrink, expand, inputs: [B L H N], [B L H N], [B L H P].
        memory: the memory before the first token, [B H N P].
        rows, columns: log-decays along N or per head, and along P; None where nothing decays.
        resets: True where the memory from before the token is forgotten, [B L].
        exclusive: whether a token reads before its own decay and write.
    """

    shrink: Steps
    expand: Steps
    inputs: Steps
    memory: Memory
    rows: Float[Tensor, "#B #L #H #N"] | None
    columns: Float[Tensor, "#B #L #H #P"] | None
    resets: Resets | None
    exclusive: bool


class ChunkPlan:
    """The chunks of one call, each in the form that its decays allow."""

    def __init__(self, call: Call) -> None:
        length = call.inputs.shape[1]
        self.call = call
        self.spans, self.divided = spans(length), divided(call.resets, length)
        self.rows = None if call.rows is None else AxisDecay(call.rows, length)
        self.columns = None if call.columns is None else AxisDecay(call.columns, length)
        self.work = Workspace()
        self.widths: dict[AxisDecay, list[int]] = {}
        # the segments of one chunk serve its memories and its decays along both axes
        self.latest: tuple[tuple[int, bool], Segments] | None = None
        half_sums = [axis.half_sums(CHUNK) for axis in (self.rows, self.columns) if axis is not None]
        self.exact = [False] * len(self.spans)
        if half_sums:
            self.exact = (torch.stack(half_sums).sum(0) < -MIDPOINT_RANGE).tolist()

    def segments(self, index: int, fill: bool = False) -> Segments | None:
        """The mask of rows of a chunk in the same document, None if all are; `fill`: with rows up to a power of two."""
        if self.call.resets is None or not self.divided[index]:
            return None
        if self.latest is None or self.latest[0] != (index, fill):
            start, stop = self.spans[index]
            resets = self.call.resets[:, start:stop, None]
            found = Segments.of((filled(resets, -2) if fill else resets)[..., 0], self.call.inputs.dtype)
            self.latest = ((index, fill), found)
        return self.latest[1]

    def chunk(self, index: int) -> MidpointChunk | ExactChunk:
        """The form of one chunk: exact where the factors of the midpoint form would leave their range."""
        exclusive = self.call.exclusive
        if self.exact[index]:
            rows, columns = self._exact(self.rows, index), self._exact(self.columns, index)
            return ExactChunk(rows, columns, self.segments(index, fill=True), exclusive)
        row_scale = None if self.rows is None else self._midpoint(self.rows, index).turned()
        column_scale = None if self.columns is None else self._midpoint(self.columns, index)
        return MidpointChunk(row_scale, column_scale, self.segments(index), exclusive, self.work)

    def _exact(self, axis: AxisDecay | None, index: int) -> Within:
        if axis is None:
            return UNDECAYED
        if axis not in self.widths:
            self.widths[axis] = axis.widths()
        return axis.form(index, EXACT[self.widths[axis][index], self.call.exclusive])

    def _midpoint(self, axis: AxisDecay, index: int) -> Midpoint:
        batch, _, heads, size = axis.log_decay.shape
        return axis.form(index, MIDPOINTS[self.call.exclusive], max(1, TOGETHER // (batch * CHUNK * heads * size)))


def chunks(values: Steps) -> tuple[Tensor, ...]:
    """Views of the rows of every chunk, heads first: [B H C N]."""
    return values.transpose(1, 2).split(CHUNK, 2)


def run(call: Call, kept: list[Memory] | None = None) -> tuple[Outputs, Memory]:
    """Outputs [B L H P] and the final memory, without gradients; `kept` receives the memories before every chunk."""
    plan, memory = ChunkPlan(call), call.memory
    outputs = call.inputs.new_empty(call.inputs.shape)
    sequences = (call.shrink, call.expand, call.inputs, outputs)
    for index, (*given, place) in enumerate(zip(*map(chunks, sequences), strict=True)):
        if kept is not None:
            kept.append(memory)
        memory = plan.chunk(index).forward(Values(*given), memory, place)
    return outputs, memory


class ChunkRecurrence(torch.autograd.Function):
    """`run` with its own backward pass: linear in L in time and memory, nothing of size B L H N P."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Outputs, Memory]:
        call, memories = Call(*arguments), list[Memory]()
        outputs, final = run(call, memories)
        ctx.set_materialize_grads(False)
        ctx.exclusive = call.exclusive
        # only the gradient of a decay along P needs the outputs
        read = None if call.columns is None else outputs
        given = (call.shrink, call.expand, call.inputs, call.memory, call.rows, call.columns, call.resets)
        ctx.save_for_backward(*given, read, *memories[1:], final)
        return outputs, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor | None, d_memory: Tensor | None) -> tuple[Tensor | None, ...]:
        shrink, expand, inputs, before, rows, columns, resets, outputs, *memories = ctx.saved_tensors
        call = Call(shrink, expand, inputs, before, rows, columns, resets, ctx.exclusive)
        memories = [before, *memories]
        plan = ChunkPlan(call)
        # what nobody used has no gradient
        d_outputs = torch.zeros_like(inputs) if d_outputs is None else d_outputs
        d_memory = torch.zeros_like(memories[-1]) if d_memory is None else d_memory
        d_rows = DecayGradient(plan.rows, shrink, ctx.exclusive) if plan.rows and ctx.needs_input_grad[4] else None
        d_columns = (
            DecayGradient(plan.columns, inputs, ctx.exclusive) if plan.columns and ctx.needs_input_grad[5] else None
        )
        sequences = (shrink, expand, inputs)
        gradients = [values.new_empty(values.shape) for values in sequences]
        pieces, places = (list(zip(*map(chunks, each), strict=True)) for each in (sequences, gradients))
        d_reads, reads = chunks(d_outputs), () if outputs is None else chunks(outputs)
        with torch.autocast(d_outputs.device.type, enabled=False):
            for index in reversed(range(len(plan.spans))):
                d_before, reading, writing, written = plan.chunk(index).backward(
                    Values(*pieces[index]), memories[index], d_reads[index], d_memory, Values(*places[index])
                )
                if d_rows is not None:
                    end = (d_memory * memories[index + 1]).sum(3)
                    d_rows.add(*plan.spans[index], plan.segments(index), reading, writing, end)
                if d_columns is not None:
                    end, read = (d_memory * memories[index + 1]).sum(2), Pass(reads[index], d_reads[index])
                    d_columns.add(*plan.spans[index], plan.segments(index), read, written, end)
                d_memory = d_before
        decays = (None if each is None else each.result() for each in (d_rows, d_columns))
        return *gradients, d_memory, *decays, None, None
