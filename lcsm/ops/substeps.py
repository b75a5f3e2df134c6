"""Several writes per token: every write is a step of its own, and a token reads at one of its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar, cast

import torch.nn.functional as F

from lcsm.ops.reference import extents
from lcsm.ops.spec import RecurrenceSpec
from lcsm.shapes import Factor, Inputs, Memory, Reads, Resets, Tensor, Writes
from lcsm.structures import Structure

Run = TypeVar("Run", bound=Callable[..., Any])


def by_steps(algorithm: Run) -> Run:
    """The algorithm for several writes per token, from one that writes once.

    It runs over L x substeps steps. A shrink is zero but at the step at which its token reads: the first of its steps
    where the read is exclusive, else the last. A document begins with the first step of its first token.
    """

    @wraps(algorithm)
    def run(
        spec: RecurrenceSpec,
        structure: Structure,
        inputs: Inputs,
        expand: Writes,
        shrink: Factor,
        memory: Memory | None = None,
        keep: bool = False,
        resets: Resets | None = None,
        **options: Any,
    ) -> tuple[Reads, Memory | None]:
        substeps = spec.substeps
        if substeps == 1:
            return algorithm(spec, structure, inputs, expand, shrink, memory, keep, resets, **options)
        _, length = extents(structure, inputs, expand, shrink, substeps)
        place = 0 if spec.exclusive else substeps - 1
        shrink = spread(shrink.expand(-1, length, -1, -1, -1), substeps, place)
        resets = None if resets is None else spread(resets, substeps, 0)
        spec = replace(spec, substeps=1, shrink=f"{spec.shrink}*L")
        outputs, memory = algorithm(spec, structure, inputs, expand, shrink, memory, keep, resets, **options)
        return outputs[:, place::substeps], memory

    return cast(Run, run)


def spread(values: Tensor, substeps: int, place: int) -> Tensor:
    """Values of tokens [B L ...] at one step of each, zero at the others, [B L*substeps ...]."""
    last = (0, 0) * (values.ndim - 2)
    return F.pad(values[:, :, None], (*last, place, substeps - 1 - place)).flatten(1, 2)
