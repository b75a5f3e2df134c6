"""The associative (parallel) scan of any diagonal oscillation: logarithmic depth, but every memory is built.

Offered for comparison, because the literature of S5, LRU and Mamba states its results for it; `lockstep` and
`elementwise` do the same work several times faster on a CPU.
"""

import torch

from lcsm.ops.reference import blank_memory, extents, read_all, require_diagonal
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.substeps import by_steps
from lcsm.shapes import Factor, Inputs, Memory, Reads, Resets, Tensor, Writes
from lcsm.structures import Structure


@by_steps
def scan(
    spec: RecurrenceSpec,
    structure: Structure,
    inputs: Inputs,
    expand: Writes,
    shrink: Factor,
    memory: Memory | None = None,
    keep: bool = False,
    resets: Resets | None = None,
) -> tuple[Reads, Memory | None]:
    """Combine neighbouring steps in pairs, then pairs of pairs; arguments and results as in `ops.reference`.

    Memory: several tensors of size B L H N P, twice that for the backward pass.

    Raises:
        ValueError: the structure is no `Diagonal`.
    Source: Blelloch 1990, in the form of `jax.lax.associative_scan`.
    """
    structure = require_diagonal(structure, "scan")
    batch, length = extents(structure, inputs, expand, shrink)
    blank = blank_memory(spec, structure, inputs, expand, batch)
    before = blank if memory is None else memory.to(torch.promote_types(blank.dtype, memory.dtype))
    shape = (batch, length, *before.shape[1:])
    decay = structure.factor(0, length)
    if resets is not None:
        decay = decay.masked_fill(resets[..., None, None, None], 0)
    decay = decay.to(before.dtype).expand(shape)
    written = (expand * inputs.unsqueeze(3)).to(before.dtype).expand(shape)
    first = written[:, :1] + decay[:, :1] * before.unsqueeze(1)
    memories = _prefixes(decay, torch.cat([first, written[:, 1:]], 1))
    return read_all(spec, memories, before, shrink, keep, resets)


def _prefixes(decay: Tensor, written: Tensor) -> Tensor:
    """memory_t = decay_t memory_{t-1} + written_t for all t, by recursion over pairs of steps; [B L ...]."""
    length = written.shape[1]
    if length == 1:
        return written
    paired = length - length % 2
    left, right = (slice(0, paired, 2), slice(1, paired, 2))
    odd = _prefixes(
        decay[:, left] * decay[:, right], torch.addcmul(written[:, right], decay[:, right], written[:, left])
    )
    count = (length - 1) // 2
    even = torch.addcmul(written[:, 2::2], decay[:, 2::2], odd[:, :count])
    even = torch.cat([written[:, :1], even], 1)
    together = torch.stack([even[:, : paired // 2], odd], 2).flatten(1, 2)
    return torch.cat([together, even[:, paired // 2 :]], 1)
