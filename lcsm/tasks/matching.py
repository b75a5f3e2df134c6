"""Matching: one label for a pair of sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from lcsm.structures import Context
from lcsm.tasks.base import Batch
from lcsm.tasks.classification import Classification, sequences


class Matching(Classification):
    """Cross entropy and accuracy over pairs of sequences; metrics as in `Classification`.

    The second sequences of a batch are named `other_tokens`, `other_mask` and `other_segments`, and have the length of
    the first ones.
    """

    documents = 2

    def sequences(self, batch: Batch) -> tuple[Tensor, Tensor, Context | None]:
        (first, mask, context), (second, other_mask, other) = sequences(batch, ""), sequences(batch, "other_")
        segments = None
        if context is not None and other is not None and context.segments is not None and other.segments is not None:
            segments = Context(segments=torch.cat([context.segments, other.segments]))
        return torch.cat([first, second]), torch.cat([mask, other_mask]), segments
