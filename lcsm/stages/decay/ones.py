"""No decay: the memory is the sum of all that was written."""

from typing import Any

import torch

from lcsm.shapes import Stream, Tensor, Writes
from lcsm.stages.base import Oscillation
from lcsm.structures import Context, Diagonal, widen


class Ones(Oscillation):
    """memory_t = memory_{t-1} + expand_t input_t^T.

    Returns:
        Diagonal with log-decays of zero, [1 1 1 1 1].
    Source: linear attention (2006.16236); EOS, o_type = 10.
    """

    zero: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(1, 1, 1, 1, 1), persistent=False)

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Diagonal, Any]:
        return Diagonal(log_decay=widen(self.zero)), past
