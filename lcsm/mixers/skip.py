"""Skip connections: the part of a token that reaches the outputs without a memory."""

from __future__ import annotations

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import Float, Inputs, Stream, Tensor
from lcsm.stages.settings import choose
from lcsm.structures import widen


class Skip(nn.Module):
    """A learned weight times what is written or what the block sees.

    Args:
        of: inputs, a weight per channel times what is written; heads, a weight per head; source, a weight per channel
            times the block's input; dense, a matrix per head times its share of the block's input; none, nothing.
        init: start of the weight, ones or normal.
        written: channels that are written, H P.
        seen: channels that the source gives the skip.
        width: channels of the outputs, W.
        num_heads: H.
    Raises:
        UsageError: an option is unknown, or the channels are not as many as those of the outputs.
    """

    def __init__(self, of: str, init: str, written: int, seen: int, width: int, num_heads: int) -> None:
        super().__init__()
        share = width // num_heads
        shapes = {"none": (), "inputs": (width,), "source": (width,), "heads": (num_heads,)}
        shape = choose("mixer.skip.of", of, {**shapes, "dense": (num_heads, share, share)})
        start = choose("mixer.skip.init", init, {"ones": torch.ones, "normal": torch.randn})
        self.of, self.weight = of, None
        if not shape:
            if init != "ones":
                raise UsageError(
                    f"mixer.skip.init={init} starts a skip, but mixer.skip.of=none: set mixer.skip.init=ones"
                )
            return
        channels = seen if of in ("source", "dense") else written
        if channels != width:
            raise UsageError(
                f"mixer.skip.of={of} has {channels} channels, but the outputs have {width}: set mixer.skip.of=none"
            )
        self.weight = nn.Parameter(start(shape))
        if of == "dense":
            self.weight.data *= share**-0.5
        else:
            mark(self.weight)

    def forward(self, inputs: Inputs, seen: Stream) -> Float[Tensor, "B L W"] | None:
        """The term added to the outputs; None for nothing."""
        if self.weight is None:
            return None
        if self.of == "heads":
            return (self.weight[:, None] * inputs).flatten(2)
        if self.of == "dense":
            heads = widen(seen).unflatten(-1, (self.weight.shape[0], -1))
            with torch.autocast(seen.device.type, enabled=False):
                return torch.einsum("hpq,blhq->blhp", self.weight, heads).flatten(2)
        return self.weight * (inputs if self.of == "inputs" else seen).flatten(2)
