"""The kernel of modes that may grow, for `ops.convolution`: read backwards, a growing mode decays."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from lcsm.errors import UsageError
from lcsm.ops.convolution.vandermonde import ConstantModes, evaluate
from lcsm.shapes import Float, Num, Tensor
from lcsm.structures import CANNOT_ADVANCE, Growing


class GrowingSystem:
    """Kernel of constant modes that may grow; nothing can be said about their memory.

    Args:
        pairs: modes stand for conjugate pairs.
        structure: constant in time.
        expand, shrink: directions with modes last, [#H #P N]; the gain is on the expand.
        dtype: real numbers of the result.
    Source: the shift by the last lag is that of DSS (2203.14343), appendix A.
    """

    def __init__(self, pairs: bool, structure: Growing, expand: Tensor, shrink: Tensor, dtype: torch.dtype) -> None:
        log, angle = structure.log(0, 1)[0, 0].mT.to(dtype), structure.angle(0, 1)
        self.grows, self.span = log > 0, int(structure.span)
        sign = 1 - 2 * self.grows.to(dtype)
        self.modes = ConstantModes(log * sign, None if angle is None else angle[0, 0].mT.to(dtype) * sign)
        self.weights = (shrink * expand * (2 if pairs else 1)).expand(*expand.shape[:-1], log.shape[-1])

    def kernel(self, length: int) -> Float[Tensor, "#H #P L"]:
        """The impulse response after 0 .. length - 1 steps."""
        seen = min(length, self.span)
        kernel = evaluate(self.weights.masked_fill(self.grows, 0), self.modes, seen)
        if bool(self.grows.any()):
            backwards = evaluate(self.weights.masked_fill(~self.grows, 0), self.modes, self.span)
            kernel = kernel + backwards.flip(-1)[..., :seen]
        return F.pad(kernel, (0, length - seen))

    def decayed(self, memory: Num[Tensor, "B H P N"], length: int) -> Float[Tensor, "B H P L"]:
        """Refused: an earlier memory would have to be advanced."""
        raise UsageError(CANNOT_ADVANCE)

    def final(self, inputs: Float[Tensor, "B H P L"], memory: Tensor | None) -> Num[Tensor, "B H P N"]:
        """Refused: the memory of a growing mode has no bound."""
        raise UsageError(CANNOT_ADVANCE)
