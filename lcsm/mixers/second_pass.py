"""A second pass of the memory, from the last token to the first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from lcsm.errors import UsageError
from lcsm.ops.recurrence import Read, Recurrence, Written
from lcsm.shapes import Factor, Stream
from lcsm.stages.base import Shrink
from lcsm.stages.long_convolution.base import KernelShrink
from lcsm.stages.segments import starts
from lcsm.stages.settings import choose
from lcsm.structures import Context, widen


class SecondPass(nn.Module):
    """Add what the same memory gives when it runs from the end.

        output_t += memory'_t^T shrink'_t,   memory'_t = oscillation_t(memory'_{t+1}) + expand_t input_t^T

    Args:
        shrink: what it reads by: tied, as the first pass, at a kernel the negative lags; own, a stage of its own; none
            for no second pass.
        exclusive: whether the memory is read before the write of the same token, so that the pass starts at t + 1.
        recurrence: that of the first pass.
        make_shrink: makes the stage of its own.
    """

    def __init__(self, shrink: str, exclusive: bool, recurrence: Recurrence, make_shrink: Callable[[], Shrink]) -> None:
        super().__init__()
        choose("mixer.reverse.shrink", shrink, dict.fromkeys(("none", "tied", "own")))
        self.exclusive = exclusive
        self.runs, self.shrink = shrink != "none", make_shrink() if shrink == "own" else None
        self.recurrence = recurrence
        if self.runs:
            self.recurrence = Recurrence(replace(recurrence.spec, exclusive=exclusive), recurrence.request)

    def check(self, first: Shrink) -> None:
        """Refuse to count a token twice.

        Args:
            first: the stage that the first pass reads by.
        """
        if isinstance(first, KernelShrink) and first.two_sided and self.shrink is None and not self.exclusive:
            raise UsageError(
                f"mixer.reverse.shrink=tied reads {type(first).__name__} at lags -1, -2, ..., so that it starts at the "
                "next token:\nset mixer.reverse.exclusive=true"
            )

    def forward(
        self, read: Read, written: Written, first: Shrink, shrink: Factor, x: Stream, context: Context | None
    ) -> Read:
        """The outputs of both directions.

        Args:
            read, written: of the first pass.
            first, shrink: the stage that the first pass reads by, and its value.
            x: what that stage saw.
        """
        if not self.runs:
            return read
        if self.shrink is not None:
            shrink, _ = self.shrink(x, written.expand, written.structure, None, context)
        elif isinstance(first, KernelShrink):
            shrink = first.opposite(shrink, x.shape[1])
        resets = None if context is None or context.segments is None else starts(context.segments.flip(1))
        outputs, _ = self.recurrence.run(written.flip(), widen(shrink).flip(1), resets=resets)
        reader = first if self.shrink is None else self.shrink
        return replace(read, outputs=read.outputs + reader.read_out(outputs).flip(1))
