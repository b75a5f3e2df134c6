"""A diagonal oscillation that is constant in time: the same step of all chunks at once, then what chunks hand on."""

import torch

from lcsm.ops.reference import require_diagonal
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.steps.block_scan import walk_blocks
from lcsm.ops.steps.blocks import Contraction, Ranges, StepBlock, ranges
from lcsm.ops.steps.elementwise import DiagonalWalk
from lcsm.ops.substeps import by_steps
from lcsm.shapes import Factor, Inputs, Memory, Reads, Resets, Tensor, Writes
from lcsm.structures import Diagonal, Structure

# Steps of a chunk, short enough that a step of all chunks of a block stays in the cache.
CHUNK = 16
BLOCK_BYTES = 1 << 21


@by_steps
def lockstep(
    spec: RecurrenceSpec,
    structure: Structure,
    inputs: Inputs,
    expand: Writes,
    shrink: Factor,
    memory: Memory | None = None,
    keep: bool = False,
    resets: Resets | None = None,
) -> tuple[Reads, Memory | None]:
    """Step all chunks together, carry over whole chunks, add what was carried; signature of `ops.reference`.

    Serves every `Diagonal`, real or complex, whose decay and phase are constant in time. Powers of the factor are made
    in float64: in float32 the phase of a power loses one digit.

    Raises:
        ValueError: the oscillation is data-driven, or the structure no `Diagonal`.
    """
    structure = require_diagonal(structure, "lockstep")
    lengths = {name: value.shape[1] for name, value in structure.tensors().items() if name not in ("gain", "log_gain")}
    if max(lengths.values()) > 1:
        raise ValueError(
            f"lockstep needs an oscillation that is constant in time, but its fields have lengths {lengths}:\n"
            "use algorithm=elementwise"
        )
    return walk_blocks(LockStep, cut, spec, structure, inputs, expand, shrink, memory, keep, resets)


def cut(length: int, batch: int, row_bytes: int) -> tuple[Ranges, Ranges]:
    """Blocks of whole chunks, the rest in one shorter chunk; slices of the batch whose chunks fit a block."""
    rows = max(1, BLOCK_BYTES // (CHUNK * row_bytes))
    steps = CHUNK * max(1, BLOCK_BYTES // (CHUNK * row_bytes * min(rows, batch)))
    whole = length - length % CHUNK
    rest = ((whole, length),) if length > whole else ()
    return ranges(whole, steps) + rest, ranges(batch, rows)


class LockStep(DiagonalWalk):
    """Steps of all chunks at once; memories are seen as [chunks, steps, B H N P]."""

    def __init__(
        self, structure: Diagonal, gradients: dict[str, Tensor] | None, longest: int, contract: Contraction
    ) -> None:
        super().__init__(structure, gradients, longest, contract)
        chunk = min(CHUNK, longest)
        exponents = torch.arange(chunk + 1, device=self.factor.device).view(-1, 1, 1, 1, 1)
        wide = structure.map(lambda value: value.detach().double())
        log, angle = wide.log(0, 1).transpose(0, 1), wide.angle(0, 1)
        self.powers = (log * exponents).exp()
        if angle is not None:
            turned = angle.transpose(0, 1) * exponents
            self.powers = torch.complex(self.powers * turned.cos(), self.powers * turned.sin())
        self.powers = self.powers.to(self.factor.dtype)
        self.alive: Tensor | None = None

    def open(self, block: StepBlock, alive: Tensor | None) -> None:
        self.block, self.alive, self.decay = block, alive, self.factor

    def _chunks(self, values: Tensor) -> Tensor:
        """A block [C ...] as [chunks, steps, ...]."""
        return values.unflatten(0, (-1, min(CHUNK, values.shape[0])))

    def advance(self, memories: Tensor) -> None:
        rows = self._chunks(memories[1:])
        steps, alive = rows.shape[1], None if self.alive is None else self._chunks(self.alive)
        decay, whole = self.powers[1], self.powers[steps]
        # the rows hold what every step writes, and become memories in place
        memories[1].addcmul_(_masked(decay, alive, (0, 0)), memories[0])
        columns = rows.unbind(1)
        for t in range(1, steps):
            columns[t].addcmul_(_masked(decay, alive, (slice(None), t)), columns[t - 1])
        last = columns[-1].unbind(0)
        survives = None if alive is None else alive.all(1)
        for chunk in range(1, len(last)):
            last[chunk].addcmul_(_masked(whole, survives, (chunk,)), last[chunk - 1])
        carried = rows[:-1, -1:]
        if alive is not None:
            carried = carried * alive.cumprod(1)[1:, :-1]
        rows[1:, :-1].addcmul_(self.powers[1:steps], carried)

    def retreat(self, gradients: Tensor) -> None:
        rows = self._chunks(gradients[1:])
        steps, alive = rows.shape[1], None if self.alive is None else self._chunks(self.alive)
        decay, whole = self.powers[1], self.powers[steps]
        columns = rows.unbind(1)
        for t in range(steps - 2, -1, -1):
            columns[t].addcmul_(_masked(decay, alive, (slice(None), t + 1)), columns[t + 1])
        first = columns[0].unbind(0)
        # row t of a chunk reaches the next chunk if nothing is forgotten after it, up to that chunk's first step
        after = None
        if alive is not None:
            after = alive.flip(1).cumprod(1).flip(1)
            after = torch.cat([after[:-1, 1:], torch.ones_like(after[:-1, :1])], 1) * alive[1:, :1]
        for chunk in range(len(first) - 2, -1, -1):
            first[chunk].addcmul_(_masked(whole, after, (chunk, 0)), first[chunk + 1])
        carried = rows[1:, :1]
        if after is not None:
            carried = carried * after[:, 1:]
        rows[:-1, 1:].addcmul_(self.powers[1:steps].flip(0), carried)
        gradients[0].addcmul_(_masked(decay, alive, (0, 0)), gradients[1])

    def collect(self, gradients: Tensor, before: Tensor, after: Tensor) -> None:
        if self.alive is not None:
            gradients[1:].mul_(self.alive)
        super().collect(gradients, before, after)


def _masked(power: Tensor, alive: Tensor | None, index: tuple[int | slice, ...]) -> Tensor:
    """A power of the factor, zero where the memory is forgotten."""
    return power if alive is None else power * alive[index]
