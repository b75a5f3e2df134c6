"""A constant matrix as the oscillation, by its powers: pairs of tokens inside chunks, one product between chunks."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from lcsm.ops.reference import blank_memory, extents
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.substeps import by_steps
from lcsm.shapes import Factor, Inputs, Memory, Reads, Resets, Tensor, Writes
from lcsm.structures import Dense

CHUNK = 16
# Reads through all powers of a chunk take C times the room of the shrink; segments of the sequence keep that small.
SEGMENT_BYTES = 1 << 23


class WholeChunks(NamedTuple):
    """Whole chunks of a call, heads first: [H B M C .] for M chunks of C tokens; axes of size 1 where constant."""

    inputs: Tensor
    expand: Tensor
    shrink: Tensor
    resets: Resets | None


@by_steps
def powers(
    spec: RecurrenceSpec,
    structure: Dense,
    inputs: Inputs,
    expand: Writes,
    shrink: Factor,
    memory: Memory | None = None,
    keep: bool = False,
    resets: Resets | None = None,
) -> tuple[Reads, Memory | None]:
    """Chunks of 16 tokens, in which t reads shrink_t^T matrix^(t - s) expand_s of s; signature of `ops.reference`.

    Costs about C N^2 operations per token and head where `loop` costs 2 N^2 P, in few large products.

    Raises:
        ValueError: the matrix is data-driven.
    """
    shape = list(structure.matrix.shape)
    if shape[:2] != [1, 1]:
        raise ValueError(
            f"powers needs one matrix for all steps, but matrix has shape {shape}, [B L H N N]: use algorithm=loop"
        )
    batch, length = extents(structure, inputs, expand, shrink)
    blank = blank_memory(spec, structure, inputs, expand, batch)
    dtype = blank.dtype if memory is None else torch.promote_types(blank.dtype, memory.dtype)
    memory = (blank if memory is None else memory).to(dtype).transpose(0, 1)
    shrink = shrink if dtype.is_complex or not shrink.is_complex() else shrink.real
    heads, size = memory.shape[0], memory.shape[2]
    vectors = [value.squeeze(4).expand(*value.shape[:2], heads, size) for value in (expand, shrink)]
    factors = [value.to(dtype).permute(2, 0, 1, 3) for value in (inputs.expand(-1, -1, heads, -1), *vectors)]
    outputs = []
    with torch.autocast(inputs.device.type, enabled=False):
        table = _table(structure.matrix[0, 0].to(dtype).expand(heads, size, size), min(CHUNK, length))
        for start, stop, chunk in _pieces(length, batch * heads * size * memory.element_size()):
            own, written, read = (_chunks(value, start, stop, chunk) for value in factors)
            marks = None if resets is None else resets[:, start:stop].unflatten(1, (-1, chunk))
            # checkpoint: the reads through all powers are made again in the backward pass
            found, memory = checkpoint(
                _piece, spec, table[: chunk + 1], WholeChunks(own, written, read, marks), memory,
                use_reentrant=False, preserve_rng_state=False,
            )  # fmt: skip
            outputs.append(found.flatten(2, 3).permute(1, 2, 0, 3))
    result = torch.cat(outputs, 1)
    if spec.reads == "vector" and dtype.is_complex:
        result = 2 * result.real if spec.pairs else result.real
    return result, memory.transpose(0, 1) if keep else None


def _pieces(length: int, token_bytes: int) -> list[tuple[int, int, int]]:
    """Start, stop and chunk length of pieces of whole chunks; what is left is one shorter chunk."""
    whole = length - length % CHUNK
    size = CHUNK * max(1, SEGMENT_BYTES // (CHUNK * CHUNK * token_bytes))
    pieces = [(start, min(start + size, whole), CHUNK) for start in range(0, whole, size)]
    return pieces + ([(whole, length, length - whole)] if length > whole else [])


def _chunks(value: Tensor, start: int, stop: int, chunk: int) -> Tensor:
    """Tokens start..stop of [H B L .] as [H B M C .]."""
    if value.shape[2] == 1:
        return value.unsqueeze(2)
    return value[:, :, start:stop].unflatten(2, (-1, chunk))


def _table(matrix: Tensor, count: int) -> Tensor:
    """Powers 0..count of [H N N] by doubling, [count + 1, H N N]."""
    table = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand(1, *matrix.shape)
    while len(table) <= count:
        table = torch.cat([table, table @ (table[-1] @ matrix)])[: count + 1]
    return table


def _piece(spec: RecurrenceSpec, table: Tensor, piece: WholeChunks, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs [H B M C P] and the memory [H B N P] after the piece."""
    chunk = len(table) - 1
    segments = None if piece.resets is None else piece.resets.cumsum(2)
    ends = torch.einsum("chij,hbmcj->hbmci", table[:chunk].flip(0), piece.expand)
    survives = None
    if segments is not None:
        ends = ends * (segments == segments[:, :, -1:]).unsqueeze(-1)
        survives = (segments[:, :, -1] == 0)[..., None, None]
    written = torch.einsum("hbmcn,hbmcp->hbmnp", ends, piece.inputs)
    count = max(value.shape[2] for value in piece[:3])
    starts = []
    for index, new in enumerate(written.expand(-1, -1, count, -1, -1).unbind(2)):
        starts.append(memory)
        memory = torch.einsum("hij,hbjp->hbip", table[chunk], memory)
        memory = new + (memory if survives is None else memory * survives[:, index])
    carried = torch.stack(starts, 2)
    if spec.reads == "memory":
        return _memories(spec.exclusive, table, piece, segments, carried[..., 0]), memory
    reach = table[:chunk] if spec.exclusive else table[1:]
    reads = torch.einsum("chij,hbmci->hbmcj", reach, piece.shrink)
    if segments is not None:
        reads = reads * (segments == 0).unsqueeze(-1)
    weights = _weights(spec.exclusive, table, piece, segments)
    inputs = piece.inputs.expand(-1, -1, -1, chunk, -1)
    return reads @ carried + weights @ inputs, memory


def _weights(exclusive: bool, table: Tensor, piece: WholeChunks, segments: Tensor | None) -> Tensor:
    """The share of the write of s that t reads inside a chunk, [#H #B #M C C]."""
    chunk, tokens = len(table) - 1, torch.arange(len(table) - 1, device=table.device)
    # column j of the reads is the power C - 1 - j, so that windows over the past of expand line up with it
    power = (chunk - 1 - exclusive - tokens).clamp_min(0)
    columns = table[power].permute(1, 2, 0, 3).flatten(2, 3)
    reads = (piece.shrink.flatten(1, 3) @ columns).unflatten(1, piece.shrink.shape[1:4]).unflatten(4, (chunk, -1))
    past = piece.expand.unsqueeze(4)
    if piece.expand.shape[3] > 1:
        past = F.pad(piece.expand, (0, 0, chunk - 1, 0)).unfold(3, chunk, 1).transpose(4, 5)
    by_column = (reads * past).sum(5)
    later, earlier = tokens[:, None], tokens[None, :]
    column = (chunk - 1 - later + earlier).clamp_max(chunk - 1)
    by_column = by_column.expand(-1, -1, -1, chunk, -1)
    weights = by_column.gather(4, column.expand_as(by_column))
    seen = earlier < later if exclusive else earlier <= later
    if segments is not None:
        seen = seen & (segments.unsqueeze(3) == segments.unsqueeze(2))
    return weights.masked_fill(~seen, 0)


def _memories(exclusive: bool, table: Tensor, piece: WholeChunks, segments: Tensor | None, carried: Tensor) -> Tensor:
    """The memories that every token sees, [H B M C N], for P = 1: one product per step of all chunks at once."""
    chunk = len(table) - 1
    written = (piece.expand * piece.inputs).expand(-1, -1, -1, chunk, -1)
    found: list[Tensor] = []
    for t, new in enumerate(written.unbind(3)):
        before = torch.einsum("hij,hbmj->hbmi", table[1], found[-1]) if found else torch.zeros_like(new)
        if piece.resets is not None:
            before = before.masked_fill(piece.resets[:, :, t, None], 0)
        found.append(new + before)
    reached = torch.einsum("chij,hbmj->hbmci", table[1:], carried)
    if segments is not None:
        reached = reached * (segments == 0).unsqueeze(-1)
    memories = torch.stack(found, 3) + reached
    if not exclusive:
        return memories
    seen = torch.cat([carried.unsqueeze(3), memories[:, :, :, :-1]], 3)
    return seen if piece.resets is None else seen.masked_fill(piece.resets.unsqueeze(-1), 0)
