"""A full matrix as the oscillation, step by step: one matrix product per token."""

from __future__ import annotations

import torch

from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.steps.block_scan import walk_blocks
from lcsm.ops.steps.blocks import Ranges, StepBlock, Walk, ranges, total
from lcsm.ops.substeps import by_steps
from lcsm.shapes import Factor, Inputs, Memory, Reads, Resets, Tensor, Writes
from lcsm.structures import Dense

STEPS = 16
SLICE_BYTES = 1 << 19


@by_steps
def loop(
    spec: RecurrenceSpec,
    structure: Dense,
    inputs: Inputs,
    expand: Writes,
    shrink: Factor,
    memory: Memory | None = None,
    keep: bool = False,
    resets: Resets | None = None,
) -> tuple[Reads, Memory | None]:
    """One matrix product per step, data-driven or constant; arguments and results as in `ops.reference`.

    The backward pass recomputes blocks of 16 steps. Costs 2 N^2 P operations per token and head.
    """
    return walk_blocks(Matrices, cut, spec, structure, inputs, expand, shrink, memory, keep, resets)


def cut(length: int, batch: int, row_bytes: int) -> tuple[Ranges, Ranges]:
    """Blocks in time and slices of the batch for memories of `row_bytes` per batch row."""
    return ranges(length, STEPS), ranges(batch, max(1, SLICE_BYTES // row_bytes))


class Matrices(Walk):
    """One matrix product per step."""

    swaps = False

    def open(self, block: StepBlock, alive: Tensor | None) -> None:
        self.block, self.alive = block, alive
        matrix = self.structure.rows(block.start, block.stop).matrix.transpose(0, 1)
        self.matrices = matrix if alive is None else matrix * alive

    def _steps(self, memories: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Memories [C + 1] x [BH N P] and matrices [C] x [BH N N]."""
        size = memories.shape[3]
        matrices = self.matrices.to(memories.dtype)
        matrices = matrices.expand(-1, *memories.shape[1:3], size, size).flatten(1, 2)
        return memories.flatten(1, 2).unbind(0), matrices.expand(memories.shape[0] - 1, -1, -1, -1).unbind(0)

    def advance(self, memories: Tensor) -> None:
        rows, matrices = self._steps(memories)
        for t, matrix in enumerate(matrices):
            rows[t + 1].baddbmm_(matrix, rows[t])

    def retreat(self, gradients: Tensor) -> None:
        rows, matrices = self._steps(gradients)
        for t in range(len(matrices) - 1, -1, -1):
            rows[t].baddbmm_(matrices[t].mT, rows[t + 1])

    def collect(self, gradients: Tensor, before: Tensor, after: Tensor) -> None:
        assert self.gradients is not None
        target = self.gradients["matrix"].transpose(0, 1)
        target = target if target.shape[0] == 1 else target[self.block.start : self.block.stop]
        share = (gradients[1:] @ torch.cat([before.unsqueeze(0), after[:-1]]).mT).conj()
        share = total(share if self.alive is None else share * self.alive, target.shape)
        target += share if target.is_complex() or not share.is_complex() else share.real
