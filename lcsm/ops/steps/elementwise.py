"""Any diagonal oscillation, step by step over small blocks: nothing of size B L H N P is ever built."""

import torch

from lcsm.ops.reference import require_diagonal
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.steps.block_scan import walk_blocks
from lcsm.ops.steps.blocks import Contraction, Ranges, StepBlock, Walk, ranges, total
from lcsm.ops.substeps import by_steps
from lcsm.shapes import Factor, Inputs, Memory, Reads, Resets, Tensor, Writes
from lcsm.structures import LOG_DECAY_FLOOR, Diagonal, Structure

# A block of memories stays near the second-level cache; the saved block starts are 1/32 of all memories, more only
# where 32 steps would need a block of over 16 MB.
SLICE_BYTES = 1 << 16
BLOCK_BYTES, LARGEST_BYTES = 1 << 20, 1 << 24
SHORTEST, LONGEST = 32, 128


@by_steps
def elementwise(
    spec: RecurrenceSpec,
    structure: Structure,
    inputs: Inputs,
    expand: Writes,
    shrink: Factor,
    memory: Memory | None = None,
    keep: bool = False,
    resets: Resets | None = None,
) -> tuple[Reads, Memory | None]:
    """Advance every memory entry by itself, block by block; arguments and results as in `ops.reference`.

    Serves every `Diagonal`, real or complex, also subclasses that override `log` or `angle` by functions that act on
    each entry alone. Memory: one block, and the memory at the start of every block for the backward pass.

    Raises:
        ValueError: the structure is no `Diagonal`.
    """
    structure = require_diagonal(structure, "elementwise")
    return walk_blocks(SingleSteps, cut, spec, structure, inputs, expand, shrink, memory, keep, resets)


def cut(length: int, batch: int, row_bytes: int) -> tuple[Ranges, Ranges]:
    """Blocks in time and slices of the batch for memories of `row_bytes` per batch row."""
    rows = max(1, SLICE_BYTES // row_bytes)
    step_bytes = row_bytes * min(rows, batch)
    steps = min(LONGEST, max(SHORTEST, BLOCK_BYTES // step_bytes), max(1, LARGEST_BYTES // step_bytes))
    return ranges(length, steps), ranges(batch, rows)


class DiagonalWalk(Walk):
    """The factor of a diagonal oscillation and the gradients of its fields; subclasses move the memory."""

    def __init__(
        self, structure: Diagonal, gradients: dict[str, Tensor] | None, longest: int, contract: Contraction
    ) -> None:
        super().__init__(structure, gradients, longest, contract)
        fields = structure.tensors().values()
        shape = torch.broadcast_shapes(*((1, *value.shape[:1], *value.shape[2:]) for value in fields))
        self.constant = all(value.shape[1] == 1 for value in fields)
        # the fields' own formula is evaluated and differentiated in place; that of a subclass goes through autograd
        kind = type(structure)
        self.plain = all(getattr(kind, name) is getattr(Diagonal, name) for name in ("log", "unfloored", "angle"))
        self.buffer = structure.log_decay.new_empty(1 if self.constant else longest, *shape[1:])
        self.received: Tensor | None = None
        self.block = StepBlock(0, 1, 0, 1)
        if self.constant:
            self._evaluate(structure, 1)

    def open(self, block: StepBlock, alive: Tensor | None) -> None:
        self.block = block
        if not self.constant:
            self._evaluate(self.structure.rows(block.start, block.stop), block.stop - block.start)
        self.decay = self.factor if alive is None else self.factor * alive

    def _evaluate(self, piece: Diagonal, length: int) -> None:
        """The factor [C B H N P] of a piece of the structure."""
        angle = None
        self.factor = self.buffer[:length]
        if self.plain:
            self.piece = piece.map(lambda value: value.transpose(0, 1))
            self._fill(self.factor, self.piece)
            if self.piece.phase is not None:
                angle = self.piece.phase if self.piece.step is None else self.piece.phase * self.piece.step
        else:
            self.piece = piece.map(lambda value: value.detach().requires_grad_(self.gradients is not None))
            with torch.set_grad_enabled(self.gradients is not None):
                log, turned = self.piece.log(0, length), self.piece.angle(0, length)
            self.results = [log] if turned is None else [log, turned]
            self.factor.copy_(log.detach().transpose(0, 1)).exp_()
            angle = None if turned is None else turned.detach().transpose(0, 1)
        if angle is not None:
            self.factor = torch.complex(self.factor * angle.cos(), self.factor * angle.sin())

    @staticmethod
    def _fill(factor: Tensor, piece: Diagonal) -> None:
        """exp(max(log_decay * step + columns, floor)) into `factor`."""
        if piece.step is None:
            factor.copy_(piece.log_decay)
        else:
            torch.mul(piece.log_decay.expand(factor.shape), piece.step, out=factor)
        if piece.columns is not None:
            factor.add_(piece.columns)
        factor.clamp_(min=LOG_DECAY_FLOOR).exp_()

    def collect(self, gradients: Tensor, before: Tensor, after: Tensor) -> None:
        # the gradients of this block are not read again: their products with the memories take their place
        gradients[1].mul_(before)
        gradients[2:].mul_(after[:-1])
        received = total(gradients[1:], self.decay.shape)
        received = total(received.mul_(self.decay), self.factor.shape)
        if not self.constant:
            self._share(received)
        elif self.received is None:
            self.received = received.clone()
        else:
            self.received += received

    def close(self) -> None:
        if self.received is not None:
            self._share(self.received)

    def _share(self, received: Tensor) -> None:
        """The gradients of the fields, from the (conjugate) gradient of log-decay + i phase, [C B H N P]."""
        real = received.real if received.is_complex() else received
        parts = [real] if self.piece.phase is None else [real, -received.imag]
        if not self.plain:
            self._share_by_autograd(parts)
            return
        # where the floor holds, `received` carries a factor exp(-80): its share needs no mask
        piece = self.piece
        for name, part in zip(("log_decay", "phase"), parts, strict=False):
            rate = getattr(piece, name)
            if piece.step is None:
                self._add(name, part)
            else:
                self._add(name, self.contract(part, piece.step, rate.shape))
                self._add("step", self.contract(part, rate, piece.step.shape))
        if piece.columns is not None:
            self._add("columns", parts[0])

    def _share_by_autograd(self, parts: list[Tensor]) -> None:
        leaves = self.piece.tensors()
        grads = [
            total(part, result.transpose(0, 1).shape).transpose(0, 1)
            for part, result in zip(parts, self.results, strict=True)
        ]
        found = torch.autograd.grad(self.results, list(leaves.values()), grads, allow_unused=True)
        for name, value in zip(leaves, found, strict=True):
            if value is not None:
                self._add(name, value.transpose(0, 1))

    def _add(self, name: str, share: Tensor) -> None:
        """Add a time-major share to the gradient of a field, summed over the axes along which the field is constant."""
        assert self.gradients is not None
        target = self.gradients[name].transpose(0, 1)
        target = target if target.shape[0] == 1 else target[self.block.start : self.block.stop]
        target += total(share, target.shape)


class SingleSteps(DiagonalWalk):
    """One step at a time."""

    def __init__(
        self, structure: Diagonal, gradients: dict[str, Tensor] | None, longest: int, contract: Contraction
    ) -> None:
        super().__init__(structure, gradients, longest, contract)
        self.views: dict[tuple[int, int], tuple[Tensor, ...]] = {}

    def advance(self, memories: Tensor) -> None:
        rows, decays = self._views(memories), self._decays(memories)
        for t, decay in enumerate(decays):
            rows[t + 1].addcmul_(decay, rows[t])

    def retreat(self, gradients: Tensor) -> None:
        rows, decays = self._views(gradients), self._decays(gradients)
        for t in range(len(decays) - 1, -1, -1):
            rows[t].addcmul_(decays[t], rows[t + 1])

    def _decays(self, memories: Tensor) -> tuple[Tensor, ...]:
        """The factor of every step."""
        # a real factor lies in the buffer of all blocks, a complex or masked one in memory of its own
        if len(self.decay) == 1:
            return self.decay.expand(len(memories) - 1, -1, -1, -1, -1).unbind(0)
        return self._views(self.decay) if self.decay.data_ptr() == self.buffer.data_ptr() else self.decay.unbind(0)

    def _views(self, buffer: Tensor) -> tuple[Tensor, ...]:
        """Rows of a buffer that all blocks share: making a view of a small memory takes as long as a step."""
        key = buffer.data_ptr(), len(buffer)
        if key not in self.views:
            self.views[key] = buffer.unbind(0)
        return self.views[key]
