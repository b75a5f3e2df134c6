"""The memory is the last N inputs."""

from typing import Any

from lcsm.shapes import Stream, Writes
from lcsm.stages.base import Oscillation
from lcsm.structures import Context, Shift


class ShiftRegister(Oscillation):
    """Every row of the memory moves down by one at each step, and the oldest is forgotten.

    With `expand=newest` row j holds the input of j tokens ago, and a constant shrink is the kernel of a convolution.

    Returns:
        Shift, which has no values.
    """

    kind = "shift"

    def forward(self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None) -> tuple[Shift, Any]:
        return Shift(), past
