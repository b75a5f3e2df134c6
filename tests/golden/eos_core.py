"""The EOS recurrence with constant or data-driven expand, oscillation and shrink, run by every algorithm that fits."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from lcsm.ops.dispatch import choose_algorithm, fitting
from lcsm.ops.spec import RecurrenceSpec
from lcsm.structures import Diagonal
from tests.golden.case import Case
from tests.golden.replay import finish, leaves_of


def factor(value: torch.Tensor, data: bool, state: bool) -> tuple[torch.Tensor, str]:
    """A vector or matrix as [B L H N P], and its declaration."""
    if not data:
        value = value[None, None]
    if value.ndim == 3:
        value = value[..., None] if state else value[..., None, :]
    axes = ("L" if data else "") + ("N" if value.shape[2] > 1 else "") + ("P" if value.shape[3] > 1 else "")
    return value[:, :, None], axes


def replay(case: Case) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """The outputs and gradients of the case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    expand, expand_axes = factor(leaves["e"], config["e_mode"] == "data", True)
    shrink, shrink_axes = factor(leaves["s"], config["s_mode"] == "data", True)
    decay, decay_axes = factor(leaves["o"], config["o_mode"] == "data", True)
    spec = RecurrenceSpec(
        kind="diagonal",
        decay=decay_axes,
        expand=expand_axes,
        shrink=shrink_axes,
        num_heads=1,
        state_dim=config["k"],
        value_dim=config["d"],
    )
    memory = leaves["m_init"][:, None] if config["initial_state"] == "given" else None
    for name in fitting(spec):
        outputs, final = choose_algorithm(spec, name).function(
            spec,
            Diagonal(log_decay=decay.log()),
            leaves["i"][:, :, None],
            expand,
            shrink * config["scale"],
            memory,
            keep=True,
        )
        found = {"y": outputs[:, :, 0], "m_final": final[:, 0]}
        yield from finish(case, name, leaves, found)
