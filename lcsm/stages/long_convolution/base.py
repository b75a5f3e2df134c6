"""A memory of the last N inputs, read by one coefficient per lag: the common ground of all long convolutions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F

from lcsm.errors import UsageError
from lcsm.parameters import cached_unless_grad
from lcsm.shapes import Factor, Float, Stream, Tensor
from lcsm.stages.base import Expand, Oscillation, Shrink
from lcsm.stages.settings import positive
from lcsm.stages.vectors.expand import Newest
from lcsm.structures import Context, widen


class KernelShrink(Shrink, ABC):
    """A causal convolution of every channel with a kernel that does not depend on the data.

        output_t = sum over lags j < N of kernel[j] input_{t-j}

    A call sees only as many lags as it has tokens, and forms no others. A stream forms all N at its second call and
    keeps them in `past`.

    Args:
        num_heads, state_dim, value_dim: H, the number N of lags that the memory holds, and P.
        span: lags after which the kernel is zero; None where the model defines it at every lag.
    Attributes:
        two_sided: whether the kernel has negative lags too, by which a tied second direction reads.
    Raises:
        UsageError: span is not positive. Needs `oscillation=shift` and `expand=newest`, see `check_kernel`.
    """

    varies = "HNP"
    two_sided: bool = False

    def __init__(self, num_heads: int, state_dim: int, value_dim: int, span: int | None) -> None:
        super().__init__()
        self.sizes = (num_heads, state_dim, value_dim)
        self.span = None if span is None else int(positive("shrink.span", span))

    @abstractmethod
    def coefficients(self, length: int) -> Float[Tensor, "H T P"]:
        """The kernel at lags 0 .. length - 1, where length is at most the span, in the type of the parameters."""

    def kernel(self, length: int) -> Float[Tensor, "H T P"]:
        """The effective causal coefficients at lags 0 .. length - 1, in at least float32 whatever the autocast.

        Beyond the span they are zero. They hold no noise: dropout of a kernel is left to `sample`.
        """
        held = length if self.span is None else min(length, self.span)
        with torch.autocast(self.device.type, enabled=False):
            found = widen(self.coefficients(held))
        return found if held == length else F.pad(found, (0, 0, 0, length - held))

    def sample(self, length: int) -> Float[Tensor, "H T P"]:
        """The kernel of one call, with noise where the model trains with some."""
        return self.kernel(length)

    def vector(self, x: Stream, past: Tensor | None = None, context: Context | None = None) -> tuple[Factor, Any]:
        """The kernel as a read-out of all N rows, [1 1 H N P]; `past` is what the last call formed, [H T P]."""
        past = self.formed(x.shape[1], self.sizes[1], past)
        return rows(past, self.sizes[1]), past

    def formed(self, length: int, lags: int, past: Tensor | None) -> Float[Tensor, "H T P"]:
        """The lags that a call of `length` tokens sees of a memory of `lags` inputs: fewer only at the start.

        Args:
            past: what the last call formed; None at the start of a sequence.
        """
        if past is None:
            return self.sample(min(length, lags))
        before = cached_unless_grad(past)
        return before if before is not None and before.shape[1] == lags else self.sample(lags)

    def opposite(self, shrink: Factor, length: int) -> Factor:
        """The kernel of a tied second direction of `length` tokens: the same lags, unless it is two-sided."""
        return shrink

    @property
    def device(self) -> torch.device:
        """The device on which the kernel is formed."""
        tensors = [*self.parameters(), *self.buffers()]
        return tensors[0].device


def rows(kernel: Float[Tensor, "H T P"], lags: int) -> Factor:
    """A kernel as a read-out, [1 1 H N P]; rows that nothing was written to yet are read by zeros."""
    return F.pad(kernel, (0, 0, 0, lags - kernel.shape[1]))[None, None]


def check_kernel(expand: Expand, oscillation: Oscillation, shrink: Shrink) -> None:
    """Refuse stages that do not make a convolution where the shrink is a kernel.

    Raises:
        UsageError: the memory is not the last N inputs as they were.
    """
    if isinstance(shrink, KernelShrink) and not (oscillation.kind == "shift" and isinstance(expand, Newest)):
        raise UsageError(
            f"shrink={type(shrink).__name__} has one coefficient per lag, but oscillation={type(oscillation).__name__} "
            f"and expand={type(expand).__name__} keep no lags:\nuse oscillation=shift with expand=newest"
        )
