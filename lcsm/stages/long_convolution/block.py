"""A long convolution inside a stage, with a memory of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.ops.cost import recurrent_flops
from lcsm.ops.recurrence import Recurrence
from lcsm.ops.spec import RecurrenceSpec
from lcsm.parameters import mark
from lcsm.shapes import Float, Tensor
from lcsm.stages.base import Shrink
from lcsm.stages.long_convolution.base import KernelShrink, rows
from lcsm.stages.long_convolution.modal import ModalKernel
from lcsm.stages.segments import resets_of
from lcsm.structures import Context, Shift, widen

# The last inputs [B H N P] and the lags of the kernel that were formed [H T P]; the memory of a `ModalKernel`.
Past = tuple[Any, ...]


class ShiftBlock(nn.Module):
    """Convolve every channel with a kernel and add the channel itself with a learned weight.

        outputs_t = sum over lags j < N of kernel[j] values_{t-j} + skip values_t

    Args:
        shrink: the kernel, or what it was converted to.
        lags: N, the number of inputs that the memory holds, > 0.
    Raises:
        UsageError: the shrink is no kernel.
    Source: the bias of Hyena's filters (2302.10866), the D of the shift SSM of H3 (2212.14052); both start normal.
    """

    newest: Tensor

    def __init__(self, shrink: Shrink, lags: int) -> None:
        super().__init__()
        if not isinstance(shrink, (KernelShrink, ModalKernel)):
            raise UsageError(
                f"the input convolves with shrink={type(shrink).__name__}, which has no kernel:\n"
                "use shrink=hyena, tnn, sgconv or longconv, or another input"
            )
        heads, _, columns = shrink.sizes
        self.shrink, self.lags = shrink, lags
        self.recurrence = Recurrence(
            RecurrenceSpec(kind="shift", expand="N", shrink="HNP", num_heads=heads, state_dim=lags, value_dim=columns)
        )
        self.skip = mark(nn.Parameter(torch.randn(heads, columns)))
        newest = torch.zeros(1, 1, 1, lags, 1)
        newest[:, :, :, 0] = 1
        self.register_buffer("newest", newest, persistent=False)

    def forward(
        self, values: Float[Tensor, "B L H P"], past: Past | None = None, context: Context | None = None
    ) -> tuple[Float[Tensor, "B L H P"], Past]:
        """Convolve values; `past` is what the last call returned, None at the start of a sequence."""
        values = widen(values)
        if isinstance(self.shrink, ModalKernel):
            outputs, past = self.shrink.convolve(values, past, context)
            return outputs + self.skip * values, past
        memory, kernel = past[:2] if past is not None else (None, None)
        kernel = self.shrink.formed(values.shape[1], self.lags, kernel)
        written = self.recurrence.write(Shift(), values, self.newest)
        outputs, memory = self.recurrence.run(written, rows(kernel, self.lags), memory, True, resets_of(context))
        return outputs + self.skip * values, (memory, kernel)

    def memory_flops(self) -> int:
        """Multiplications and additions per token in the recurrent form."""
        part = self.shrink if isinstance(self.shrink, ModalKernel) else self
        return recurrent_flops(part.recurrence.spec)

    def state_size(self) -> int:
        """Real numbers that one sequence keeps; the kernel is common to all."""
        if isinstance(self.shrink, ModalKernel):
            return self.shrink.state_size()
        return self.lags * self.skip.numel()
