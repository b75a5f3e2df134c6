"""Matching: one label for a pair of sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from lcsm.structures import Context
from lcsm.tasks.base import Batch
from lcsm.tasks.classification import Classification, sequences


class Matching(Classification):
    """Cross entropy and accuracy over pairs of sequences; metrics as in `Classification`.

    The second sequences of a batch are named `other_tokens`, `other_mask`, `other_segments` and `other_dt`, and have
    the length of the first ones.
    """

    documents = 2

    def sequences(self, batch: Batch) -> tuple[Tensor, Tensor, Context | None]:
        (first, mask, context), (second, other_mask, other) = sequences(batch, ""), sequences(batch, "other_")
        both = (
            None
            if context is None or other is None
            else Context(segments=joined(context.segments, other.segments), dt=joined(context.dt, other.dt))
        )
        return torch.cat([first, second]), torch.cat([mask, other_mask]), both


def joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """One after the other along the batch, where there are both."""
    return None if first is None or second is None else torch.cat([first, second])
