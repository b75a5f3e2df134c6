"""The block engine that elementwise, lockstep and loop share: reused buffers and a backward pass that recomputes.

A `Walk` moves the memory of one oscillation through a block of steps; everything else (writing, reading,
gradients of inputs, expand, shrink and memory, conjugate pairs, exclusive reads, resets) is here, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from lcsm.ops.reference import blank_memory, extents
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.steps.blocks import Contraction, Ranges, StepBlock, Walk, WalkPlan
from lcsm.shapes import Factor, Inputs, Memory, Reads, Resets, Tensor, Writes

Cut = Callable[[int, int, int], tuple[Ranges, Ranges]]


def walk_blocks(
    walk: type[Walk],
    cut: Cut,
    spec: RecurrenceSpec,
    structure: Any,
    inputs: Inputs,
    expand: Writes,
    shrink: Factor,
    memory: Memory | None,
    keep: bool,
    resets: Resets | None,
) -> tuple[Reads, Memory | None]:
    """Run one kind of walk over a whole call; the arguments after `cut` are those of `ops.reference`.

    Args:
        walk: how the oscillation moves the memory.
        cut: (length, batch, bytes of one batch row of memory) to the blocks in time and the slices of the batch.
    """
    batch, length = extents(structure, inputs, expand, shrink)
    blank = blank_memory(spec, structure, inputs, expand, batch)
    memory = blank if memory is None else memory.to(torch.promote_types(blank.dtype, memory.dtype))
    if shrink.is_complex() and not memory.is_complex():
        shrink = shrink.real
    # the gain is on inputs or expand by now
    fields = {name: value for name, value in structure.tensors().items() if name not in ("gain", "log_gain")}
    factors = {"inputs": inputs.unsqueeze(3), "expand": expand, "shrink": shrink, **fields}
    real = memory.real.dtype
    factors = {name: value.to(torch.promote_types(value.dtype, real)) for name, value in factors.items()}
    swap = walk.swaps and _swaps(factors, memory)
    if swap:
        # channels innermost: [B L 1 N H] reads and writes whole vectors
        factors = {name: value.transpose(2, 4) for name, value in factors.items()}
        factors = {name: value.contiguous() if value.shape[1] == 1 else value for name, value in factors.items()}
        memory = memory.transpose(1, 3)
    steps, slices = cut(length, batch, memory[0].numel() * memory.element_size())
    plan = WalkPlan(
        walk=walk,
        structure=type(structure),
        names=tuple(fields),
        steps=steps,
        slices=slices,
        exclusive=spec.exclusive,
        reads_memory=spec.reads == "memory",
        doubled=spec.pairs and memory.is_complex() and spec.reads == "vector",
        record=torch.is_grad_enabled() and any(value.requires_grad for value in (memory, *factors.values())),
        resets=resets,
    )
    values = list(factors.values())
    with torch.autocast(inputs.device.type, enabled=False):
        outputs, final = BlockScan.apply(plan, *values[:3], memory, *values[3:])
    outputs, final = (outputs.transpose(2, 4), final.transpose(1, 3)) if swap else (outputs, final)
    return outputs.squeeze(-1 if plan.reads_memory else 3), final if keep else None


def _swaps(factors: dict[str, Tensor], memory: Memory) -> bool:
    """Whether heads and value columns trade places: channels of P = 1 whose data-driven factors allow it as a view."""
    wide = any(value.shape[1] > 1 and value.shape[2] > 1 and value.shape[3] > 1 for value in factors.values())
    return memory.shape[3] == 1 and memory.shape[1] > memory.shape[2] and not wide


def write(memories: Tensor, inputs: Tensor, expand: Tensor) -> None:
    """The writes of every step, expand_t input_t^T, into memories[1:]."""
    torch.mul(expand.expand(memories.shape[0] - 1, *memories.shape[1:]), inputs, out=memories[1:])


def read(plan: WalkPlan, contract: Contraction, memories: Tensor, shrink: Tensor, alive: Tensor | None) -> Tensor:
    """The outputs of a block, [C B H 1 P], or its memories where the shrink asks for them."""
    outputs = plan.seen(memories)
    if not plan.reads_memory:
        outputs = contract(outputs, shrink, (*outputs.shape[:3], 1, outputs.shape[4]))
        outputs = outputs.real if outputs.is_complex() else outputs
        outputs = 2 * outputs if plan.doubled else outputs
    return outputs * alive if plan.exclusive and alive is not None else outputs


class Gathered:
    """The gradient of one factor, gathered block by block."""

    def __init__(self, like: Tensor, slices: int):
        # what is written exactly once needs no zeros first
        self.once = like.shape[1] > 1 and (like.shape[0] > 1 or slices == 1)
        self.value = torch.empty_like(like) if self.once else torch.zeros_like(like)
        self.rows = self.value.transpose(0, 1)

    def add(self, contract: Contraction, memories: Tensor, weights: Tensor, block: StepBlock) -> None:
        """Add the conjugate of the sum of memories * weights over the axes along which the factor is constant."""
        target = block.of(self.rows)
        gradient = contract(memories, weights, target.shape).conj()
        gradient = gradient.real if gradient.is_complex() and not target.is_complex() else gradient
        if self.once:
            target.copy_(gradient)
        else:
            target += gradient


@dataclass
class Reverse:
    """The backward pass over the blocks of one slice of the batch.

    Args:
        factors: inputs, expand and shrink, time-major; gathered: their gradients, None where none is needed.
        outputs: gradient of the outputs, time-major.
        known: the memories after every step, where they are the outputs.
        memories, gradients: buffers of one block; gradients hold conjugates, so that decays and factors need none.
    """

    plan: WalkPlan
    walk: Walk
    factors: list[Tensor]
    gathered: list[Gathered | None]
    outputs: Tensor | None
    known: Tensor | None
    memories: Tensor
    gradients: Tensor

    def run(self, block: StepBlock, before: Tensor, carried: Tensor) -> None:
        """One block: memories again, then gradients; `carried` is that of the memory after the block, then before."""
        count = block.stop - block.start + 1
        memories, gradients = self.memories[:count], self.gradients[:count]
        inputs, expand, shrink = (block.of(factor) for factor in self.factors)
        alive = self.plan.alive(block)
        self.walk.open(block, alive)
        if self.known is None:
            memories[0] = before
            write(memories, inputs, expand)
            self.walk.advance(memories)
        self._unread(block, memories, gradients, shrink, alive)
        gradients[-1] += carried
        self.walk.retreat(gradients)
        carried.copy_(gradients[0])
        for target, factor in zip(self.gathered, (expand, inputs), strict=False):
            if target is not None:
                target.add(self.walk.contract, gradients[1:], factor, block)
        if self.walk.gradients is not None:
            self.walk.collect(gradients, before, memories[1:] if self.known is None else block.of(self.known))

    def _unread(
        self, block: StepBlock, memories: Tensor, gradients: Tensor, shrink: Tensor, alive: Tensor | None
    ) -> None:
        """Conjugate gradients of what was read, into `gradients`; the shrink's share is gathered."""
        if self.outputs is None:
            gradients.zero_()
            return
        plan, outputs = self.plan, block.of(self.outputs)
        outputs = 2 * outputs if plan.doubled else outputs
        outputs = outputs * alive if plan.exclusive and alive is not None else outputs
        gradients[-1 if plan.exclusive else 0].zero_()
        seen = plan.seen(gradients)
        if plan.reads_memory:
            seen.copy_(outputs.conj())
            return
        torch.mul(shrink.expand(seen.shape), outputs, out=seen)
        if self.gathered[2] is not None:
            self.gathered[2].add(self.walk.contract, plan.seen(memories), outputs, block)


class BlockScan(torch.autograd.Function):
    """Forward keeps the memory before every block; backward recomputes each block from it."""

    @staticmethod
    def forward(
        ctx: Any, plan: WalkPlan, inputs: Tensor, expand: Tensor, shrink: Tensor, memory: Tensor, *values: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, heads, size, width = memory.shape
        starts = memory.new_empty(len(plan.steps) if plan.record else 0, *memory.shape)
        dtype = memory.dtype if plan.reads_memory else memory.real.dtype
        outputs = memory.new_empty(batch, plan.length, heads, size if plan.reads_memory else 1, width, dtype=dtype)
        factors = [value.transpose(0, 1) for value in (inputs, expand, shrink)]
        final, contract = torch.empty_like(memory), Contraction()
        for low, high in plan.slices:
            walk = plan.begin(list(values), None, low, high, contract)
            buffer = memory.new_empty(plan.longest + 1, *memory[low:high].shape)
            buffer[0] = memory[low:high]
            for index, block in plan.blocks(low, high):
                if plan.record:
                    starts[index, low:high] = buffer[0]
                # every block uses the same buffer: row 0 is the memory before it, the others are overwritten
                memories, alive = buffer[: block.stop - block.start + 1], plan.alive(block)
                write(memories, block.of(factors[0]), block.of(factors[1]))
                walk.open(block, alive)
                walk.advance(memories)
                found = read(plan, contract, memories, block.of(factors[2]), alive)
                block.of(outputs.transpose(0, 1)).copy_(found)
                buffer[0] = memories[-1]
            final[low:high] = buffer[0]
        ctx.plan = plan
        known = outputs if plan.reads_memory and not plan.exclusive else None
        ctx.save_for_backward(inputs, expand, shrink, starts, known, *values)
        ctx.set_materialize_grads(False)
        return outputs, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor | None, d_final: Tensor | None) -> tuple[Tensor | None, ...]:
        plan: WalkPlan = ctx.plan
        inputs, expand, shrink, starts, known, *values = ctx.saved_tensors
        # where the shrink read nothing its gradient is none at all
        reads = d_outputs is not None and not plan.reads_memory
        needed = (*ctx.needs_input_grad[1:3], ctx.needs_input_grad[3] and reads)
        wanted = zip((inputs, expand, shrink), needed, strict=True)
        gathered = [Gathered(value, len(plan.slices)) if one else None for value, one in wanted]
        factors = [value.transpose(0, 1) for value in (inputs, expand, shrink)]
        rows, known = (None if value is None else value.transpose(0, 1) for value in (d_outputs, known))
        d_memory = torch.zeros_like(starts[0]) if d_final is None else d_final.conj().clone().resolve_conj()
        differentiate, contract = any(ctx.needs_input_grad[5:]), Contraction()
        d_values = [torch.zeros_like(value) for value in values] if differentiate else None
        with torch.autocast(inputs.device.type, enabled=False):
            for low, high in plan.slices:
                memories = starts.new_empty(plan.longest + 1, *starts[0, low:high].shape)
                walk = plan.begin(values, d_values, low, high, contract)
                reverse = Reverse(plan, walk, factors, gathered, rows, known, memories, torch.empty_like(memories))
                for index, block in reversed(list(plan.blocks(low, high))):
                    reverse.run(block, starts[index, low:high], d_memory[low:high])
                walk.close()
        found = [None if one is None else one.value for one in gathered]
        shares = [None] * len(values) if d_values is None else d_values
        return None, *found, d_memory.conj(), *shares
