"""Decays of any size inside a chunk of `delta`, for what reads before a step and for what reads after it.

The members of each form are those of `chunk.exact.Halves`: `pair`, `collect` and its transpose `scatter` between rows,
and the factors `read` from the start of the chunk, `write` to its end and `across` all of it.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F

from lcsm.ops.chunk.decay import WIDTHS
from lcsm.ops.chunk.exact import Halves, Undecayed, filled, weights_of
from lcsm.shapes import Float, Tensor

Pairs = Float[Tensor, "B H C C"]
Vectors = Float[Tensor, "B H C N"]


class PairDecays:
    """One decay per head: those of all pairs of rows.

    Args:
        sums: log-decays summed up to every boundary between steps, [B H C+1 1], in float64: a difference of two of them
            keeps the digits of a small decay behind large ones.
        decays: of what row s wrote for what row t reads, [B H C C].
        first: the boundary at which row 0 reads, 0 or 1.
    """

    def __init__(self, sums: Tensor, decays: Pairs, first: int) -> None:
        count = decays.shape[-1]
        self.decays = decays
        exponents = (sums[:, :, first : first + count], sums[:, :, -1:] - sums[:, :, 1:], sums[:, :, -1:])
        self.read, self.write, self.across = (weights_of(each.to(decays.dtype, copy=True)) for each in exponents)

    def pair(self, reads: Vectors, writes: Vectors) -> Pairs:
        return (reads @ writes.mT).mul_(self.decays)

    def collect(self, weights: Pairs, writes: Vectors) -> Vectors:
        return (weights * self.decays) @ writes

    def scatter(self, weights: Pairs, reads: Vectors) -> Vectors:
        return (weights * self.decays).mT @ reads


class AfterOwnStep:
    """Readers after a step from those before it: one decay more, and the row's own write undecayed.

    Args:
        before: for what reads before the step.
        own: decay of each step, [B H C N].
    """

    def __init__(self, before: Halves, own: Vectors) -> None:
        self.before, self.own = before, own
        self.read, self.write, self.across = before.read * own, before.write, before.across

    def pair(self, reads: Vectors, writes: Vectors) -> Pairs:
        pairs = self.before.pair(reads * self.own, writes)
        pairs.diagonal(dim1=2, dim2=3).copy_(torch.linalg.vecdot(reads, writes))
        return pairs

    def collect(self, weights: Pairs, writes: Vectors) -> Vectors:
        total = self.before.collect(weights.tril(-1), writes) * self.own
        return total.addcmul_(weights.diagonal(dim1=2, dim2=3)[..., None], writes)

    def scatter(self, weights: Pairs, reads: Vectors) -> Vectors:
        total = self.before.scatter(weights.tril(-1), reads * self.own)
        return total.addcmul_(weights.diagonal(dim1=2, dim2=3)[..., None], reads)


Within = Undecayed | Halves | PairDecays | AfterOwnStep


class Readers(NamedTuple):
    """The decays of one chunk.

    Args:
        before, after: for what reads before the decay and the write of its own step, and for what reads after them.
    """

    before: Within
    after: Within


def readers(log_decay: Tensor, width: int) -> list[Readers]:
    """The exact form of one chunk.

    Args:
        log_decay: [B C H N], with B, H, N or 1.
        width: rows of the blocks that may be taken relative to their middle, as for `Halves`.
    """
    steps = filled(log_decay, -3)
    if steps.shape[3] == 1:
        sums = F.pad(steps.transpose(1, 2).double().cumsum(2), (0, 0, 1, 0))
        exponents = (sums - sums[:, :, 1:].mT).to(steps.dtype)
        decays = weights_of(exponents.clamp_max_(0))
        return [Readers(PairDecays(sums, decays[:, :, :-1], 0), PairDecays(sums, decays[:, :, 1:], 1))]
    before = Halves(steps, True, width)
    own = weights_of(steps.transpose(1, 2).clone(memory_format=torch.contiguous_format))
    return [Readers(before, AfterOwnStep(before, own))]


# By the width of the blocks, so that the same maker is the same object.
MAKERS = {width: partial(readers, width=width) for width in (*WIDTHS, 1)}
