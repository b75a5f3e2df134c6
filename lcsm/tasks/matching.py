"""Matching: one label for a pair of sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from lcsm.batch import Batch
from lcsm.structures import Context
from lcsm.tasks.classification import Classification, parts


class Matching(Classification):
    """Cross entropy and accuracy over pairs of sequences; metrics as in `Classification`."""

    targets = "pair"

    def sequences(self, batch: Batch) -> tuple[Tensor, Tensor, Context | None]:
        (first, mask, context), (second, other_mask, other) = parts(batch), parts(batch["other"])
        both = (
            None
            if context is None or other is None
            else Context(segments=joined(context.segments, other.segments), dt=joined(context.dt, other.dt))
        )
        return torch.cat([first, second]), torch.cat([mask, other_mask]), both


def joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """One after the other along the batch, where there are both."""
    return None if first is None or second is None else torch.cat([first, second])
