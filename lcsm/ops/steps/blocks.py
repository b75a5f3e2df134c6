"""The vocabulary of the block engine `block_scan`: blocks, walks over them and sums of their memories."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch

from lcsm.shapes import Resets, Tensor
from lcsm.structures import Structure

Ranges = tuple[tuple[int, int], ...]


class StepBlock(NamedTuple):
    """Steps start..stop of the batch rows low..high."""

    start: int
    stop: int
    low: int
    high: int

    def of(self, value: Tensor) -> Tensor:
        """This block of a time-major factor [L B ...]; axes of size 1 stay as they are."""
        value = value if value.shape[0] == 1 else value[self.start : self.stop]
        return value if value.shape[1] == 1 else value[:, self.low : self.high]


class Contraction:
    """Sums of a block's memories times weights; its scratch buffer is reused, fresh large blocks cost page faults."""

    def __init__(self) -> None:
        self.scratch: Tensor | None = None

    def __call__(self, memories: Tensor, weights: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
        """Sum of memories * weights over the axes where `shape` is 1, by a matmul where N or P is contracted.

        Args:
            memories: [C B H N P], full.
            weights: broadcasts to memories.
        """
        size, width = memories.shape[3:]
        if size > 1 and shape[3] == 1 and weights.shape[4] == 1:
            left = weights.to(memories.dtype).transpose(3, 4).expand(*weights.shape[:3], 1, size)
            return total(left @ memories, shape)
        if width > 1 and shape[4] == 1 and weights.shape[3] == 1:
            # a row times the transpose takes half the time of memories times a column
            row = weights.to(memories.dtype).expand(*weights.shape[:3], 1, width)
            return total((row @ memories.transpose(3, 4)).transpose(3, 4), shape)
        dtype = torch.promote_types(memories.dtype, weights.dtype)
        if self.scratch is None or self.scratch.numel() < memories.numel() or self.scratch.dtype != dtype:
            self.scratch = memories.new_empty(memories.numel(), dtype=dtype)
        product = self.scratch[: memories.numel()].view(memories.shape)
        return total(torch.mul(memories, weights, out=product), shape)


def ranges(stop: int, size: int) -> Ranges:
    """0..stop in pieces of at most `size`."""
    return tuple((start, min(start + size, stop)) for start in range(0, stop, size))


class Walk(ABC):
    """The motion of a memory through blocks; tensors are time-major, [C B H N P], and changed in place.

    Args:
        structure: the oscillation of a slice of the batch, detached, batch first.
        gradients: by field, where the gradients are added; None where none are asked for.
        longest: steps of the longest block.
        contract: sums of products over the constant axes.

    Class attributes:
        swaps: whether heads and value columns may trade places.
    """

    swaps = True

    def __init__(self, structure: Any, gradients: dict[str, Tensor] | None, longest: int, contract: Contraction):
        self.structure = structure
        self.gradients = gradients
        self.longest = longest
        self.contract = contract

    @abstractmethod
    def open(self, block: StepBlock, alive: Tensor | None) -> None:
        """Prepare the steps of a block; alive [C B 1 1 1] is False where the memory is forgotten."""

    @abstractmethod
    def advance(self, memories: Tensor) -> None:
        """memories[t + 1] += oscillation_t(memories[t]), memories [C + 1, B H N P]."""

    @abstractmethod
    def retreat(self, gradients: Tensor) -> None:
        """gradients[t] += transpose of oscillation_t (gradients[t + 1]); these are conjugates of gradients."""

    @abstractmethod
    def collect(self, gradients: Tensor, before: Tensor, after: Tensor) -> None:
        """Add this block's share to the gradients of the fields; may overwrite gradients[1:].

        Args:
            before: the memory before the block; after: those after every step, [C B H N P].
        """

    def close(self) -> None:  # noqa: B027, most walks have nothing left to do
        """Finish the gradients after the last block."""


@dataclass(frozen=True)
class WalkPlan:
    """Arguments of a call of the engine besides tensors.

    Args:
        walk, structure, names: how to rebuild the oscillation from its fields.
        steps: boundaries of the blocks in time.
        slices: boundaries of the slices of the batch.
        doubled: outputs are twice the real part of what is read.
        record: whether there will be a backward pass.
    """

    walk: type[Walk]
    structure: type[Structure]
    names: tuple[str, ...]
    steps: Ranges
    slices: Ranges
    exclusive: bool
    reads_memory: bool
    doubled: bool
    record: bool
    resets: Resets | None

    def blocks(self, low: int, high: int) -> Iterator[tuple[int, StepBlock]]:
        """The blocks of one slice of the batch, numbered."""
        for index, (start, stop) in enumerate(self.steps):
            yield index, StepBlock(start, stop, low, high)

    @property
    def length(self) -> int:
        """Number of steps of the call."""
        return self.steps[-1][1]

    @property
    def longest(self) -> int:
        """Number of steps of the longest block."""
        return max(stop - start for start, stop in self.steps)

    def begin(
        self, values: list[Tensor], gradients: list[Tensor] | None, low: int, high: int, contract: Contraction
    ) -> Walk:
        """A walk over rows low..high of the batch; gradients are those of `values`."""
        cut = [value if value.shape[0] == 1 else value[low:high] for value in (*values, *(gradients or ()))]
        structure = self.structure(**dict(zip(self.names, cut[: len(values)], strict=True)))
        targets = None if gradients is None else dict(zip(self.names, cut[len(values) :], strict=True))
        return self.walk(structure, targets, self.longest, contract)

    @cached_property
    def forgetting(self) -> set[int]:
        """The first steps of the blocks in which some row forgets its memory; read once, for the device must wait."""
        some = [False] * self.length if self.resets is None else self.resets.any(0).tolist()
        return {start for start, stop in self.steps if any(some[start:stop])}

    def alive(self, block: StepBlock) -> Tensor | None:
        """The mask of steps that keep the memory, [C B 1 1 1]; None where the block has no reset."""
        if self.resets is None or block.start not in self.forgetting:
            return None
        resets = self.resets[block.low : block.high, block.start : block.stop]
        return ~resets.transpose(0, 1)[..., None, None, None]

    def seen(self, memories: Tensor) -> Tensor:
        """The memories that are read, out of those before and after every step."""
        return memories[:-1] if self.exclusive else memories[1:]


def total(value: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """Sum over the axes where `shape` is 1."""
    axes = [axis for axis, size in enumerate(shape) if size == 1 and value.shape[axis] != 1]
    return value.sum(axes, keepdim=True) if axes else value
