"""Chunked matrix products for a memory that erases while it writes: a diagonal plus an outer product per step.

Within a chunk a unit triangular system says what each step erases (the UT transform); between chunks only the memory is
carried. `docs/delta.md` derives the system and its gradients.
"""

from __future__ import annotations

from typing import Any

import torch

from lcsm.ops.chunk.chunk import log_decays
from lcsm.ops.chunk.decay import LogDecay
from lcsm.ops.delta.loop import DeltaRecurrence, run
from lcsm.ops.reference import extents
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.substeps import by_steps
from lcsm.shapes import Factor, Inputs, Memory, Reads, Resets, Tensor, Writes
from lcsm.structures import Delta, LowRank, Structure


@by_steps
def delta(
    spec: RecurrenceSpec,
    structure: Structure,
    inputs: Inputs,
    expand: Writes,
    shrink: Factor,
    memory: Memory | None = None,
    keep: bool = False,
    resets: Resets | None = None,
) -> tuple[Reads, Memory | None]:
    """The recurrence of `reference` for a real LowRank of rank one, in matrix products over chunks of 64 steps.

    Serves no decay, one per head and one along N, of any beta; several steps per token; exclusive reads. Where the
    structure erases along the very expand that is written (`Delta` with `left is expand`), half of the products are
    saved.

    Args, Returns: as `lcsm.ops.reference.reference`.
    Raises:
        ValueError: the recurrence, or the shape of a factor, is outside of what this algorithm serves.
    Source: WY representation of DeltaNet (2406.06484), with decays as in Gated DeltaNet (2412.06464).
    """
    low_rank = _served(spec, structure, expand, shrink)
    batch, length = extents(low_rank, inputs, expand, shrink)
    decay = None if spec.decay is None else _decay(low_rank, length)

    left, beta = _erasure(low_rank, expand)
    vectors = (shrink, low_rank.right, left, expand)
    dtype = torch.float32
    for value in (*vectors, inputs, beta, memory, decay):
        dtype = dtype if value is None else torch.promote_types(dtype, value.dtype)
    sizes, size, width = (batch, length, spec.num_heads), spec.state_dim, inputs.shape[-1]
    memory = inputs.new_zeros((), dtype=dtype) if memory is None else memory
    arguments: tuple[Any, ...] = (
        *(None if value is None else value.squeeze(4).to(dtype).expand(*sizes, size) for value in vectors),
        inputs.to(dtype).expand(*sizes, width),
        None if beta is None else beta.squeeze(4).to(dtype).expand(*sizes, 1),
        memory.to(dtype).expand(batch, spec.num_heads, size, width),
        None if decay is None else decay.to(dtype),
        resets,
        spec.exclusive,
    )
    # autocast would turn the matrix products to low precision
    with torch.autocast(inputs.device.type, enabled=False):
        outputs, memory = DeltaRecurrence.apply(*arguments) if _differentiated(*arguments) else run(*arguments)
    return outputs, memory if keep else None


def _served(spec: RecurrenceSpec, structure: Structure, expand: Writes, shrink: Factor) -> LowRank:
    """The structure, if this algorithm serves the recurrence."""
    served = {
        "kind=low_rank": spec.kind == "low_rank" and type(structure) in (LowRank, Delta),
        "a real memory (no phase, no pairs)": spec.phase is None and not spec.pairs,
        "reads=vector": spec.reads == "vector",
        "expand and shrink that are constant along P": expand.shape[4] == shrink.shape[4] == 1,
    }
    for rule, holds in served.items():
        if not holds:
            raise ValueError(f"algorithm=delta needs {rule}, but received {spec}:\nuse algorithm=auto")
    assert isinstance(structure, LowRank)
    if structure.right.shape[4] != 1:
        raise ValueError(
            f"right has shape {list(structure.right.shape)}: algorithm=delta needs rank 1 (the last size);\n"
            "use substeps, or algorithm=reference"
        )
    return structure


def _decay(structure: LowRank, length: int) -> LogDecay:
    """Log-decays along N or per head, [B L H N]."""
    rows, columns = log_decays(structure, length)
    if rows is None or columns is not None:
        raise ValueError(
            f"log_decay has shape {list(structure.log_decay.shape)}: algorithm=delta needs one per head or along N;\n"
            "use algorithm=reference"
        )
    return rows


def _erasure(structure: LowRank, expand: Writes) -> tuple[Factor | None, Tensor | None]:
    """The direction of what is erased, None where it is the expand; and then its beta."""
    if not isinstance(structure, Delta):
        return structure.left, None
    if structure.left is expand:
        return None, structure.beta
    return -structure.left * structure.beta, None


def _differentiated(*arguments: Any) -> bool:
    return torch.is_grad_enabled() and any(isinstance(value, Tensor) and value.requires_grad for value in arguments)
