"""Packed rows as separate sequences, for algorithms that cannot forget in the middle of a row."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lcsm.shapes import Resets, Tensor


def by_sequence(function: Callable[[Tensor], Tensor], values: Tensor, resets: Resets) -> Tensor:
    """Apply a causal function to every segment of packed rows alone.

    Args:
        function: [S length ...] to outputs of the same first two sizes; causal, so that zeros after a sequence do no
            harm.
        values: [B L ...].
        resets: True at the first token of a segment, [B L].
    Returns:
        what `function` returns, token by token, [B L ...].
    """
    batch, length = resets.shape
    groups = sequences(resets)
    flat = values.expand(batch, length, *values.shape[2:]).flatten(0, 1)
    outputs, positions = [], []
    for index, real in groups:
        piece = flat[index].masked_fill(~real.view(*real.shape, *([1] * (flat.ndim - 1))), 0)
        outputs.append(function(piece)[real])
        positions.append(index[real])
    back = torch.cat(positions).argsort()
    return torch.cat(outputs)[back].unflatten(0, (batch, length))


def sequences(resets: Resets) -> list[tuple[Tensor, Tensor]]:
    """The segments of packed rows, grouped by length.

    Returns:
        for every group the tokens' positions in the flattened rows and whether they are real, both [S length]; padding
        is at the end and less than half of each row.
    """
    batch, length = resets.shape
    first = resets.clone()
    first[:, 0] = True
    starts = first.flatten().nonzero()[:, 0]
    lengths = torch.diff(starts, append=starts.new_tensor([batch * length]))
    # rounded up to powers of two, so that there are few groups; the longest are never padded beyond the longest segment
    rounded = (2.0 ** lengths.double().log2().ceil()).long().clamp_max(int(lengths.max()))
    groups = []
    for size in rounded.unique().tolist():
        chosen = rounded == size
        offsets = torch.arange(size, device=resets.device)
        real = offsets < lengths[chosen, None]
        groups.append(((starts[chosen, None] + offsets).clamp_max(batch * length - 1), real))
    return groups
