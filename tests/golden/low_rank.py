"""What the adapters of the delta rule's families share: one sequence map run by every algorithm that serves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from lcsm.ops.dispatch import choose_algorithm, fitting
from lcsm.ops.spec import RecurrenceSpec
from lcsm.stages.delta.projections import unit_length
from lcsm.structures import Delta, LowRank
from tests.golden.case import Case
from tests.golden.replay import finish, leaves_of


def column(value: Tensor) -> Tensor:
    """[B L H] or [B L H N] as a factor [B L H N P]."""
    return value[..., None, None] if value.ndim == 3 else value[..., None]


def decay_axes(log_decay: Tensor) -> str | None:
    """The declaration of a log-decay [B L H N 1]."""
    if log_decay.shape[1] == 1:
        return None
    return "LHN" if log_decay.shape[3] > 1 else "LH"


def erasing(key: Tensor, read: Tensor, beta: Tensor, log_decay: Tensor | None = None) -> Delta:
    """(I - beta key read^T) decay, with the beta as gain; log_decay [B L H] or [B L H N]."""
    log_decay = key.new_zeros(1, 1, 1) if log_decay is None else log_decay
    right = column(read) * column(log_decay).exp()
    beta = column(beta)
    return Delta(log_decay=column(log_decay), left=column(key), right=right, beta=beta, gain=beta)


def replay_map(
    case: Case, structure_of: Callable[[dict[str, Tensor]], LowRank], substeps: int = 1
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Outputs, final memory and gradients of the case under each algorithm.

    Args:
        structure_of: the structure from the leaves; where it is tied to the key, `left` must be the key's factor.
    """
    config: dict[str, Any] = case.config
    heads, size, width = config["H"], config["k"], config["d"]
    decay = decay_axes(structure_of(case.symbols("input", "parameter")).log_decay)
    spec = RecurrenceSpec(
        kind="low_rank",
        decay=decay,
        gain="LH",
        expand="LHN",
        shrink="LHN",
        num_heads=heads,
        state_dim=size,
        value_dim=width,
        substeps=substeps,
    )
    for name in fitting(spec):
        leaves = leaves_of(case)
        seen = dict(leaves)
        if config.get("qk_l2norm_inside"):
            seen |= {symbol: unit_length(leaves[symbol], 1e-6) for symbol in ("q", "k")}
        structure = structure_of(seen)
        expand = structure.left if isinstance(structure, Delta) else column(seen["k"])
        written, direction = structure.apply_gain(leaves["v"], expand)
        shrink = column(seen["q"]) * config["scale"]
        algorithm = choose_algorithm(spec, name).function
        outputs, final = algorithm(spec, structure, written, direction, shrink, leaves.get("m_init"), True)
        assert torch.is_tensor(final)
        yield from finish(case, name, leaves, {"y": outputs, "m_final": final})
