"""Selective scans: a data-driven step size per channel times learned rates, real or complex."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from lcsm.mixers.eos import EosMixer, State
from lcsm.stages.base import Oscillation
from lcsm.stages.state_space.mamba import DataDrivenStep
from lcsm.structures import Diagonal
from tests.golden.case import Case
from tests.golden.given import GivenExpand, GivenOscillation, GivenShrink, GivenSource, build, identity, replayed
from tests.golden.replay import leaves_of

VARIES = {"time_varying": "LN", "grouped": "LHN", "constant": "HNP"}


def factor(value: Tensor, mode: str, groups: int) -> Tensor:
    """B or C as [B L H N P], where the heads are the groups."""
    if mode == "time_varying":
        return value.transpose(1, 2)[:, :, None, :, None]
    if mode == "grouped":
        return value.permute(0, 3, 1, 2)[..., None]
    return by_group(value, groups)[None, None]


def by_group(value: Tensor, groups: int) -> Tensor:
    """[D N] as [H N P], where the heads are the groups."""
    return value.unflatten(0, (groups, -1)).transpose(1, 2)


def oscillation_of(config: dict[str, Any], leaves: dict[str, Tensor]) -> Oscillation:
    """The project's oscillation for real rates; a given structure for complex ones."""
    channels, groups, rows = config["D"], config["groups"], config["N"]
    if not config["complex"]:
        bias = [1e-3, 1e-1] if config["dt_bias"] else None
        return DataDrivenStep(channels, channels, groups, rows, channels // groups, channels, bias)
    delta = leaves["delta"].transpose(1, 2) + leaves.get("delta_bias", 0.0)
    step = F.softplus(delta).unflatten(-1, (groups, 1, -1))
    rates = by_group(leaves["A"], groups)[None, None]
    structure = Diagonal(log_decay=rates.real, phase=rates.imag, step=step, gain=step)
    return GivenOscillation(structure, "HNP*LHP", phase="HNP*LHP", gain="LHP", pairs=config["readout"] == "2re")


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["dt_activation"] == "softplus" and config["scale"] == 1
    channels, groups, rows = config["D"], config["groups"], config["N"]
    parts = {"oscillation": leaves["delta"].transpose(1, 2)}
    if config["gate"] != "none":
        parts["gate"] = leaves["z"].transpose(1, 2)

    def make(**settings: str) -> EosMixer:
        directions = {symbol: factor(leaves[symbol], config[f"{symbol}_mode"], groups) for symbol in ("B", "C")}
        return build(
            (groups, rows, channels // groups),
            leaves["u"].transpose(1, 2).unflatten(-1, (groups, -1)),
            GivenExpand(directions["B"], VARIES[config["B_mode"]]),
            oscillation_of(config, leaves),
            GivenShrink(directions["C"], VARIES[config["C_mode"]]),
            source=GivenSource(channels, **parts),
            gate=config["gate"],
            skip="inputs" if config["skip"] else "none",
            **settings,
        )

    def found(outputs: Tensor, state: State) -> dict[str, Tensor]:
        return {"y": outputs.transpose(1, 2), "m_final": state.memory.transpose(2, 3).flatten(1, 2)}

    tensors = {"output.gate.weight": identity(channels), "skip.weight": leaves.get("D")}
    if not config["complex"]:
        tensors |= {f"oscillation.{name}.weight": identity(channels) for name in ("reduce", "expand_step")}
        tensors |= {"oscillation.log_rate": by_group((-leaves["A"]).log(), groups)}
        tensors |= {"oscillation.bias": leaves.get("delta_bias")}
    memory = leaves["m_init"].unflatten(1, (groups, -1)).transpose(2, 3) if "m_init" in leaves else None
    yield from replayed(case, leaves, make, tensors, found, state=State(memory))
