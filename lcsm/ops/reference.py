"""The truth: the recurrence as a loop over time, for every structure. Every other algorithm is tested against it."""

from functools import partial

import torch

from lcsm.ops.spec import RecurrenceSpec
from lcsm.shapes import Factor, Inputs, Memory, Num, Reads, Resets, Tensor, Writes
from lcsm.structures import Decaying, Diagonal, Structure, at, in_double


def extents(structure: Structure, inputs: Inputs, expand: Writes, shrink: Factor, substeps: int = 1) -> tuple[int, int]:
    """Batch size B and number of tokens L of a call, from whichever factor carries them."""
    values = [inputs, expand, *structure.tensors().values()]
    batch = max(value.shape[0] for value in [*values, shrink])
    return batch, max(max(value.shape[1] for value in values) // substeps, shrink.shape[1])


def require_diagonal(structure: Structure, algorithm: str) -> Diagonal:
    """The structure, unless it does more than decay and turn every entry.

    Raises:
        ValueError: the structure is no `Diagonal`.
    """
    if not isinstance(structure, Diagonal):
        raise ValueError(
            f"algorithm={algorithm} needs a Diagonal, but received {type(structure).__name__}: use algorithm=auto"
        )
    return structure


def blank_memory(
    spec: RecurrenceSpec, structure: Structure, inputs: Inputs, expand: Writes, batch: int
) -> Num[Tensor, "batch H N P"]:
    """A memory of zeros [B H N P], in at least float32, complex where the oscillation or what is written is."""
    dtype = torch.promote_types(torch.promote_types(inputs.dtype, expand.dtype), torch.float32)
    for value in structure.tensors().values():
        dtype = torch.promote_types(dtype, value.dtype)
    if isinstance(structure, Decaying) and structure.phase is not None and not dtype.is_complex:
        dtype = dtype.to_complex()
    heads, size = spec.num_heads, spec.state_dim
    return torch.zeros(batch, heads, size, inputs.shape[-1], dtype=dtype, device=inputs.device)


def read(spec: RecurrenceSpec, memory: Memory, shrink: Tensor) -> Tensor:
    """One read-out [B H P] of a memory [B H N P]; the memory itself, [B H N], where the shrink asks for it."""
    if spec.reads == "memory":
        return memory[..., 0]
    return real_part(spec, (shrink * memory).sum(2))


def real_part(spec: RecurrenceSpec, outputs: Tensor) -> Tensor:
    """The real part of complex outputs, doubled where modes stand for conjugate pairs."""
    if not outputs.is_complex():
        return outputs
    return 2 * outputs.real if spec.pairs else outputs.real


def read_all(
    spec: RecurrenceSpec, memories: Tensor, before: Memory, shrink: Factor, keep: bool, resets: Resets | None
) -> tuple[Reads, Memory | None]:
    """Outputs and final memory as `reference` returns them, from the memories after every step.

    Args:
        memories: [B L H N P].
        before: the memory before the first step, [B H N P].
    """
    seen = memories
    if spec.exclusive:
        seen = torch.cat([before.unsqueeze(1), memories[:, :-1]], 1)
        if resets is not None:
            seen = seen.masked_fill(resets[..., None, None, None], 0)
    final = memories[:, -1] if keep else None
    if spec.reads == "memory":
        return seen[..., 0], final
    return real_part(spec, (shrink * seen).sum(3)), final


def reference(
    spec: RecurrenceSpec,
    structure: Structure,
    inputs: Inputs,
    expand: Writes,
    shrink: Factor,
    memory: Memory | None = None,
    keep: bool = False,
    resets: Resets | None = None,
) -> tuple[Reads, Memory | None]:
    """Advance, write, read; once per token.

    Where all steps turn the memory by the same angles, a step is made in double precision and its result rounded: a
    rounding of the factor would add up, to 1e-4 over 2000 tokens.

    Args:
        spec: the static description; its gain is already placed on inputs or expand.
        structure: the oscillation of every step.
        inputs: [B L H P], with L x substeps rows.
        expand, shrink: [B L H N P], any axis of size 1 where they are constant; expand with L x substeps rows.
        memory: the memory before the first step, [B H N P]; None for zeros.
        keep: whether to return the memory after the last step (None otherwise).
        resets: True where the memory from before the token is forgotten, [B L].
    Returns:
        outputs [B L H P] ([B L H N] where the shrink reads the memory), and the final memory or None.
    """
    batch, length = extents(structure, inputs, expand, shrink, spec.substeps)
    if memory is None:
        memory = blank_memory(spec, structure, inputs, expand, batch)
    advance, outputs = structure.advance, []
    if spec.constant_oscillation and isinstance(structure, Decaying) and structure.phase is not None:
        advance = partial(advance_finely, structure.map(in_double))
    for token in range(length):
        if resets is not None:
            memory = memory.masked_fill(resets[:, token, None, None, None], 0)
        before = memory
        for t in range(token * spec.substeps, (token + 1) * spec.substeps):
            memory = advance(memory, t, spec.pairs) + at(expand, t) * at(inputs, t)[:, :, None]
        outputs.append(read(spec, before if spec.exclusive else memory, at(shrink, token)))
    return torch.stack(outputs, 1), memory if keep else None


def advance_finely(structure: Structure, memory: Memory, t: int, pairs: bool) -> Memory:
    """One step in double precision, rounded to that of the memory, which is complex afterwards."""
    return structure.advance(in_double(memory), t, pairs).to(memory.dtype.to_complex())
