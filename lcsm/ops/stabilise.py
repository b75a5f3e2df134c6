"""Unbounded exponential weights as bounded ones: a running maximum rewrites decay and gain before any algorithm runs.

scale_t = max(log_decay_t + scale_{t-1}, log_gain_t)
log_decay'_t = log_decay_t + scale_{t-1} - scale_t,   gain'_t = exp(log_gain_t - scale_t),   memory = exp(scale) memory'
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lcsm.shapes import RealFactor, Resets, Tensor
from lcsm.structures import Diagonal


@dataclass(frozen=True)
class Scale:
    """The logarithm of what the stabilised memory is to be multiplied by.

    Args:
        before, after: before and after every step, [B L #H 1 #P]; after[:, -1] is carried.
        log_gain: the weights of what was written, before they were bounded.
    """

    before: RealFactor
    after: RealFactor
    log_gain: RealFactor


def stabilise(
    structure: Diagonal, start: float, log_scale: Tensor | None = None, resets: Resets | None = None
) -> tuple[Diagonal, Scale]:
    """The same oscillation with a decay and a gain of at most 1, and no log_gain.

    Args:
        structure: its log_gain is constant along N.
        start: scale of an empty memory, such as 0 (mLSTM) or -1e38 (RWKV-4).
        log_scale: scale of the memory that is carried in, [B #H 1 #P]; None for an empty one.
        resets: True where memory and scale start again, [B L].
    Returns:
        the bounded structure, and the scale of its memory. The maximum is detached: outputs do not depend on it, only
        on the scale that was carried in.
    Raises:
        ValueError: the structure has no log_gain, or its decay or log_gain varies along N.
    Source: xLSTM (2405.04517), eq. 15; RWKV (2305.13048), appendix D.
    """
    if structure.log_gain is None:
        raise ValueError("stabilise needs log_gain, but the oscillation has none: run its algorithm without stabilise")
    log_gain = structure.log_gain.to(torch.promote_types(structure.log_gain.dtype, torch.float32))
    length = max(value.shape[1] for value in structure.tensors().values())
    log_decay, phase = structure.unfloored(0, length), structure.angle(0, length)
    if log_decay.shape[3] > 1 or log_gain.shape[3] > 1:
        raise ValueError(
            f"a running maximum is shared by all rows, but log_decay has shape {list(log_decay.shape)} and log_gain "
            f"{list(log_gain.shape)}, [B L H N P]:\nlet both be constant along N"
        )
    before, after = _running_maximum(log_decay.detach(), log_gain.detach(), length, start, log_scale, resets)
    if log_scale is not None:
        # what was carried in is not a free choice: the memory is exp(log_scale) times what is carried with it
        carried = log_scale.to(before.dtype).expand_as(before[:, 0])
        carried = carried if resets is None else torch.where(resets[:, 0, None, None, None], before[:, 0], carried)
        before = torch.cat([carried[:, None], before[:, 1:]], 1)
    bounded = Diagonal(log_decay=log_decay + (before - after), phase=phase, gain=(log_gain - after).exp())
    return bounded, Scale(before, after, log_gain)


@torch.no_grad()
def _running_maximum(
    log_decay: Tensor, log_gain: Tensor, length: int, start: float, log_scale: Tensor | None, resets: Resets | None
) -> tuple[Tensor, Tensor]:
    """Scales before and after every step; a loop of two small operations, for sums of log-decays would cancel."""
    shape = torch.broadcast_shapes(log_decay[:, :1].shape, log_gain[:, :1].shape)
    batch = shape[0] if resets is None else resets.shape[0]
    shape = (batch, length, *shape[2:])
    decays, gains = (value.expand(shape).transpose(0, 1).contiguous() for value in (log_decay, log_gain))
    after = torch.empty_like(gains)
    first = torch.full_like(gains[0], start) if log_scale is None else log_scale.to(gains.dtype).expand_as(gains[0])
    restarts = None if resets is None else resets.transpose(0, 1)[..., None, None, None]
    some = [False] * length if resets is None else resets.any(0).tolist()
    scale = first
    for t, (decay, gain, new) in enumerate(zip(decays.unbind(0), gains.unbind(0), after.unbind(0), strict=True)):
        if restarts is not None and some[t]:
            scale = scale.masked_fill(restarts[t], start)
        torch.add(decay, scale, out=new)
        torch.maximum(new, gain, out=new)
        scale = new
    before = torch.cat([first.unsqueeze(0), after[:-1]])
    before = before if restarts is None else before.masked_fill(restarts, start)
    return before.transpose(0, 1), after.transpose(0, 1)
