"""A constant low-rank oscillation as a system of `ops.convolution`: kernel, fading memory and final memory."""

from __future__ import annotations

import torch

from lcsm.ops.convolution import resolvent, step_powers
from lcsm.ops.convolution.step_powers import krylov, reader, real_columns, real_rows, squares, step_matrix
from lcsm.shapes import Float, Num, Tensor
from lcsm.structures import LowRank, in_double

CHUNK = 64
# Matrix powers cost N^2 log L per mode, the resolvent L; measured to cross at N^2 = 2 L.
POWERS_PER_LENGTH = 2


class LowRankSystem:
    """The three questions that `ops.convolution` asks a system.

    Args:
        pairs: modes stand for conjugate pairs.
        exclusive: reads come before the step.
        structure: constant in time.
        expand, shrink: directions with modes last, [#H 1 N]; the gain is on the expand.
        dtype: real numbers of the result.
    """

    def __init__(
        self, pairs: bool, exclusive: bool, structure: LowRank, expand: Tensor, shrink: Tensor, dtype: torch.dtype
    ) -> None:
        self.pairs, self.exclusive, self.structure, self.dtype = pairs, exclusive, structure, dtype
        self.expand, self.shrink = (value.mT[None, None] for value in (expand, shrink))

    def kernel(self, length: int) -> Float[Tensor, "H 1 L"]:
        """The impulse response after 0 .. length - 1 steps."""
        small = self.structure.left.shape[3] ** 2 <= POWERS_PER_LENGTH * length
        found = (step_powers if small else resolvent).kernel(
            self.structure, self.expand, self.shrink, length, self.pairs
        )
        return found.to(self.dtype).unsqueeze(1)

    def decayed(self, memory: Num[Tensor, "B H P N"], length: int) -> Float[Tensor, "B H P L"]:
        """The outputs of an earlier memory at every step, chunk by chunk."""
        matrix, size = step_matrix(self.structure, self.pairs), min(CHUNK, length)
        row = reader(self.shrink, self.structure, self.pairs)
        reads = krylov(squares(matrix.mT, size), row if self.exclusive else matrix.mT @ row, size).mT
        power, state, found = torch.linalg.matrix_power(matrix, size), real_rows(in_double(memory.mT)), []
        for start in range(0, length, size):
            found.append(reads[..., : length - start, :] @ state)
            state = power @ state
        return torch.cat(found, 2).mT.to(self.dtype)

    def final(self, inputs: Float[Tensor, "B H P L"], memory: Tensor | None) -> Num[Tensor, "B H P N"]:
        """The memory after all inputs, chunk by chunk."""
        length, matrix = inputs.shape[-1], step_matrix(self.structure, self.pairs)
        size = min(CHUNK, length)
        first = length % size or size
        raised = {steps: torch.linalg.matrix_power(matrix, steps) for steps in {size, first}}
        writes = krylov(squares(matrix, size), real_columns(self.expand, self.structure), size).flip(-1)
        state = matrix.new_zeros(inputs.shape[0], matrix.shape[0], matrix.shape[-1], inputs.shape[2])
        if memory is not None:
            state = real_rows(in_double(memory.mT))
        for start, stop in zip([0, *range(first, length, size)], range(first, length + 1, size), strict=True):
            steps = stop - start
            state = raised[steps] @ state + writes[..., size - steps :] @ in_double(inputs[..., start:stop]).mT
        state = torch.complex(*state.chunk(2, -2)) if self.structure.phase is not None else state
        return state.mT.to(self.dtype.to_complex() if state.is_complex() else self.dtype)
