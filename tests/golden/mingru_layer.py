"""A minGRU layer: an update gate per channel, a gate on what is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.base import Oscillation
from lcsm.stages.expand import HandCrafted as Expand
from lcsm.stages.input import Projection
from lcsm.stages.oscillation.gate import Gate
from lcsm.stages.shrink import HandCrafted as Shrink
from tests.golden.case import Case
from tests.golden.given import build, layer
from tests.golden.replay import ACTIVATIONS, leaves_of


def recurrence(config: dict[str, Any], oscillation: Oscillation, **settings: Any) -> EosMixer:
    """A mixer of one recurrence per hidden channel."""
    assert config["conv"] == "none" and not config["bias"]
    width, channels = config["d_model"], config["d_hidden"]
    activation = ACTIVATIONS.get(config["candidate_activation"], config["candidate_activation"])
    return build(
        (channels, 1, 1),
        Projection(width, channels, 1, activation, False, None),
        Expand(channels, 1, "ones", "identity"),
        oscillation,
        Shrink(channels, 1, "ones", "identity"),
        d_model=width,
        gate=config["gate_activation"],
        output="linear",
        **settings,
    )


def parameters(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters around the oscillation."""
    names = {"input.projection": "wh_tilde", "output.gate": "w", "output.project": "wo"}
    return {f"{ours}.weight": leaves[f"{theirs}.weight"] for ours, theirs in names.items()}


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["update_activation"] == "sigmoid"

    def make(**settings: str) -> EosMixer:
        gate = Gate(
            config["d_model"], config["d_hidden"], 1, 1, 0, 1, {}, "scalar", 1.0, None, False, 0.0, True, "none", None
        )  # fmt: skip
        return recurrence(config, gate, **settings)

    # theirs is the gate of what is new, ours of what is kept
    tensors = {**parameters(leaves), "oscillation.projections.0.weight": -leaves["wz.weight"]}
    yield from layer(case, leaves, make, tensors)
