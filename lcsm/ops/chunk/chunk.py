"""Chunked matrix products for a real memory that decays along its rows, its columns, both or not at all.

Within a chunk all pairs of tokens meet in one matrix product; between chunks only the memory is carried. The backward
pass is written out: it keeps the inputs and the memories at the chunks' starts, and recomputes the rest chunk by chunk.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from lcsm.ops.chunk.decay import ColumnDecay, LogDecay
from lcsm.ops.chunk.loop import Call, ChunkRecurrence, run
from lcsm.ops.reference import extents
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.substeps import by_steps
from lcsm.shapes import Factor, Inputs, Memory, Reads, RealFactor, Resets, Tensor, Writes
from lcsm.structures import LOG_DECAY_FLOOR, Decaying, Diagonal, Structure


@by_steps
def chunk(
    spec: RecurrenceSpec,
    structure: Structure,
    inputs: Inputs,
    expand: Writes,
    shrink: Factor,
    memory: Memory | None = None,
    keep: bool = False,
    resets: Resets | None = None,
) -> tuple[Reads, Memory | None]:
    """The recurrence of `reference`, in matrix products over chunks of 64 tokens.

    Serves a real diagonal whose factors each vary along N or along P but not along both: no decay, one per head, along
    N, along P, or separable (`columns`); several writes per token. Any decay is safe, and the time is linear in L,
    backward too.

    Args, Returns: as `lcsm.ops.reference.reference`.
    Raises:
        ValueError: the recurrence, or the shape of a factor, is outside of what this algorithm serves.
    Source: chunked linear attention (2312.06635, section 4); gradient of the decay as in `docs/chunk.md`.
    """
    diagonal = _served(spec, structure)
    batch, length = extents(structure, inputs, expand, shrink)
    rows, columns = (None, None) if spec.rate is None else log_decays(diagonal, length)
    written, expand = _split("expand", expand)
    read, shrink = _split("shrink", shrink)
    inputs = inputs if written is None else inputs * written

    present = [value for value in (inputs, expand, shrink, memory, rows, columns) if value is not None]
    dtype = torch.float32
    for value in present:
        dtype = torch.promote_types(dtype, value.dtype)
    if dtype.is_complex:
        raise ValueError(f"a factor or the memory is {dtype}: chunk needs real tensors;\nuse algorithm=elementwise")
    width = max(value.shape[-1] for value in (inputs, memory, columns) if value is not None)
    sizes = (batch, length, spec.num_heads)
    before = inputs.new_zeros(()) if memory is None else memory
    call = Call(
        shrink.to(dtype).expand(*sizes, spec.state_dim),
        expand.to(dtype).expand(*sizes, spec.state_dim),
        inputs.to(dtype).expand(*sizes, width),
        before.to(dtype).expand(batch, spec.num_heads, spec.state_dim, width),
        None if rows is None else rows.to(dtype),
        None if columns is None else columns.to(dtype),
        resets,
        spec.exclusive,
    )
    differentiated = torch.is_grad_enabled() and any(value.requires_grad for value in present)
    # autocast would take the matrix products to low precision
    with torch.autocast(inputs.device.type, enabled=False):
        outputs, after = ChunkRecurrence.apply(*call) if differentiated else run(call)
    return outputs if read is None else outputs * read, after if keep else None


def log_decays(structure: Decaying, length: int) -> tuple[LogDecay | None, ColumnDecay | None]:
    """Log-decays along N or per head, and along P, each floored by `structure.log`; None where there are none."""
    terms = [_log(replace(structure, columns=None), length)]
    if structure.columns is not None:
        terms.append(_log(Diagonal(log_decay=structure.columns), length))
    rows: Tensor | None = None
    columns: Tensor | None = None
    for term in terms:
        if term.shape[4] == 1:
            rows = term.squeeze(4) if rows is None else rows + term.squeeze(4)
        elif term.shape[3] == 1:
            columns = term.squeeze(3) if columns is None else columns + term.squeeze(3)
        else:
            raise ValueError(
                f"log_decay has shape {list(term.shape)}, which varies along N and P at once: chunk needs a sum of one "
                "along N and one along P (the field `columns`);\nuse algorithm=elementwise"
            )
    return rows, columns


def _log(structure: Decaying, length: int) -> RealFactor:
    """structure.log(0, length), without the copy that flooring costs where nothing is below the floor."""
    if type(structure).log is not Decaying.log or structure.log_decay.shape[1] == 1:
        return structure.log(0, length)
    value = structure.log_decay if structure.step is None else structure.log_decay * structure.step
    return value if float(value.detach().amin()) >= LOG_DECAY_FLOOR else structure.log(0, length)


def _served(spec: RecurrenceSpec, structure: Structure) -> Diagonal:
    """The structure, if this algorithm serves the recurrence."""
    served = {
        "kind=diagonal": spec.kind == "diagonal" and isinstance(structure, Diagonal),
        "a real decay": spec.phase is None and getattr(structure, "phase", None) is None,
        "a shrink that reads a vector": spec.reads == "vector",
        "no factor with N and P in one term": not spec.per_channel,
    }
    for rule, holds in served.items():
        if not holds:
            raise ValueError(
                f"algorithm=chunk needs {rule}, but received {type(structure).__name__} with kind={spec.kind}, "
                f"decay={spec.rate}, phase={spec.phase}, expand={spec.direction}, shrink={spec.shrink}, "
                f"reads={spec.reads}:\nuse algorithm=auto"
            )
    assert isinstance(structure, Diagonal)
    return structure


def _split(name: str, factor: Factor) -> tuple[Tensor | None, Tensor]:
    """A factor as what varies along P, [B L H P] or None, times what varies along N, [B L H N]."""
    if factor.shape[4] == 1:
        return None, factor.squeeze(4)
    if factor.shape[3] == 1:
        return factor.squeeze(3), factor.new_ones(1, 1, 1, 1)
    raise ValueError(
        f"{name} has shape {list(factor.shape)}, which varies along N and P at once: chunk needs size 1 along one of "
        "them;\nuse algorithm=elementwise"
    )
