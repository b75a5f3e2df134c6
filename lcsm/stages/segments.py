"""Where documents begin in packed rows, also across calls."""

import torch

from lcsm.shapes import Int, Resets, Segments, Tensor
from lcsm.structures import Context


def segments_of(context: Context | None, last: Int[Tensor, " B"] | None, length: int) -> Segments | None:
    """The document ids of a call, [B L]; a call without ids continues the document of the call before it.

    Args:
        context: the context of this call.
        last: id of the last token before this call, [B]; None at the start of a sequence or where no call had ids.
        length: number of tokens in this call.
    """
    if context is not None and context.segments is not None:
        return context.segments
    return None if last is None else last[:, None].expand(-1, length)


def starts(segments: Segments, last: Int[Tensor, " B"] | None = None) -> Resets:
    """True where a token begins another document than the token before it.

    Args:
        segments: document ids, [B L].
        last: id of the token before the first one, [B]; None where there is no such token (then it starts nothing).
    """
    before = segments[:, :1] if last is None else last[:, None]
    return torch.cat([before, segments[:, :-1]], 1) != segments
