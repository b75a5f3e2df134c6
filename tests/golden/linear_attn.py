"""Linear attention with and without its denominator."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lcsm.mixers.eos import EosMixer, State
from lcsm.stages.decay.ones import Ones
from lcsm.stages.normaliser import Denominator
from tests.golden.case import Case
from tests.golden.given import build, heads, replayed
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["feature_map"] == "none" and config["causal"]
    normalised, sizes = config["normalize"], (config["H"], config["k"], config["d"])

    def make(**settings: str) -> EosMixer:
        normaliser = Denominator("add", config["eps"]) if normalised else None
        query = config["scale"] * leaves["q"]
        return build(sizes, leaves["v"], leaves["k"], Ones(), query, normaliser, **settings)

    memory = leaves.get("m_init")
    if memory is not None and normalised:
        memory = torch.cat([memory, leaves["z_init"][:, 0, :, :, None]], -1)

    def found(outputs: Tensor, state: State) -> dict[str, Tensor]:
        memory = state.memory
        return {
            "y": heads(outputs, config["H"]),
            "m_final": memory[..., : config["d"]],
            "z_final": memory[:, None, ..., -1],
        }

    yield from replayed(case, leaves, make, {}, found, state=State(memory))
