"""Document boundaries in packed rows, also across calls."""

from dataclasses import replace

import torch

from lcsm.shapes import Int, Resets, Segments, Tensor
from lcsm.structures import Context


def starts(segments: Segments, last: Int[Tensor, " B"] | None = None) -> Resets:
    """True where a token begins another document than the token before it.

    Args:
        segments: document ids, [B L].
        last: id of the token before the first one, [B]; None where there is no such token (then it starts nothing).
    """
    before = segments[:, :1] if last is None else last[:, None]
    return torch.cat([before, segments[:, :-1]], 1) != segments


def with_resets(
    context: Context | None, last: Int[Tensor, " B"] | None
) -> tuple[Context | None, Int[Tensor, " B"] | None]:
    """The context with `resets` made of its document ids, and the id of its last token for the next call.

    A call without ids continues the document of the call before it.

    Args:
        context: the context of this call.
        last: id of the last token before this call, [B]; None at the start of a sequence or where no call had ids.
    """
    if context is None or context.segments is None:
        return context, last
    return replace(context, resets=starts(context.segments, last)), context.segments[:, -1]


def resets_of(context: Context | None) -> Resets | None:
    """Resets: True where a token begins another document than the token before it, [B L]; None where none does."""
    return None if context is None else context.resets
