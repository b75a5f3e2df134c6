"""Exponential weights over time in every channel, under a running maximum."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lcsm.mixers.eos import EosMixer, State
from lcsm.stages.normaliser import Denominator
from lcsm.stages.rwkv.bonus import BonusOnes
from lcsm.stages.rwkv.decay import WeightedRate
from lcsm.stages.vectors.expand import HandCraftedExpand
from tests.golden.case import Case
from tests.golden.given import GivenSource, build, identity, replayed
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["decay_rule"] == "exp(-exp(time_decay))" and config["read_before_decay"]
    channels = config["C"]

    def make(**settings: str) -> EosMixer:
        rate = WeightedRate(channels, channels, 1, 0, 1, -5.0, 8.0, -1e38)
        expand, source = (
            HandCraftedExpand(channels, 1, "ones", "identity"),
            GivenSource(channels, oscillation=leaves["k"]),
        )
        sizes, shrink, normaliser = (channels, 1, 1), BonusOnes(channels, 1), Denominator("clamp", 1e-30)
        return build(sizes, leaves["v"][..., None], expand, rate, shrink, normaliser, source, **settings)

    def found(outputs: Tensor, state: State) -> dict[str, Tensor]:
        memory = state.memory[:, :, 0]
        final = {"num_final": memory[..., 0], "den_final": memory[..., 1], "max_final": state.log_scale[..., 0, 0]}
        return {"y": config["scale"] * outputs, **final}

    tensors = {
        "oscillation.log_rate": leaves["time_decay"][:, None, None],
        "oscillation.projection.weight": identity(channels),
        "shrink.bonus": leaves["time_first"],
    }
    state = State()
    if config["initial_state"] == "given":
        memory = torch.stack([leaves["num_init"], leaves["den_init"]], -1)[:, :, None]
        state = State(memory, leaves["max_init"][..., None, None])
    yield from replayed(case, leaves, make, tensors, found, state=state)
