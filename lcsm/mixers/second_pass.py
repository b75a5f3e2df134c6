"""A second pass of the memory, from the last token to the first."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from lcsm.ops.recurrence import Read, Recurrence, Written
from lcsm.shapes import Factor, Stream
from lcsm.stages.base import Shrink
from lcsm.stages.long_convolution.base import KernelShrink
from lcsm.stages.segments import starts
from lcsm.structures import Context, widen


class SecondPass(nn.Module):
    """Add what the same memory gives when it runs from the end.

        output_t += memory'_t^T shrink'_t,   memory'_t = oscillation_t(memory'_{t+1}) + expand_t input_t^T

    Args:
        recurrence: that of the first pass.
        exclusive: whether the memory is read before the write of the same token, so that the pass starts at t + 1.
        shrink: a stage of its own to read by; None for what the first pass reads by, at a kernel the negative lags.
    """

    def __init__(self, recurrence: Recurrence, exclusive: bool, shrink: Shrink | None) -> None:
        super().__init__()
        self.recurrence = Recurrence(replace(recurrence.problem, exclusive=exclusive), recurrence.algorithm)
        self.shrink = shrink

    def forward(
        self, read: Read, written: Written, first: Shrink, shrink: Factor, x: Stream, context: Context | None
    ) -> Read:
        """Both directions.

        Args:
            read, written: of the first pass.
            first, shrink: the stage that the first pass reads by, and its value.
            x: what that stage saw.
        """
        if self.shrink is not None:
            shrink, _ = self.shrink(x, written.expand, written.structure, None, context)
        elif isinstance(first, KernelShrink):
            shrink = first.opposite(shrink, x.shape[1])
        resets = None if context is None or context.segments is None else starts(context.segments.flip(1))
        outputs, _ = self.recurrence.run(written.flip(), widen(shrink).flip(1), resets=resets)
        reader = first if self.shrink is None else self.shrink
        return replace(read, outputs=read.outputs + reader.read_out(outputs).flip(1))
