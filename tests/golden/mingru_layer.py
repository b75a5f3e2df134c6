"""A minGRU layer: an update gate per channel, a gate on what is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from tests.golden.case import Case
from tests.golden.given import activation, layer
from tests.golden.replay import leaves_of


def common(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a layer with one recurrence per hidden channel."""
    assert config["conv"] == "none" and not config["bias"]
    return {
        "model.d_model": config["d_model"],
        "mixer.num_heads": config["d_hidden"],
        "mixer.output.gate": config["gate_activation"],
        "input.activation": activation(config["candidate_activation"]),
    }


def parameters(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters around the oscillation."""
    names = {"input.projection": "wh_tilde", "output.gate": "w", "output.project": "wo"}
    return {f"{ours}.weight": leaves[f"{theirs}.weight"] for ours, theirs in names.items()}


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["update_activation"] == "sigmoid"
    # theirs is the gate of what is new, ours of what is kept
    tensors = {**parameters(leaves), "oscillation.projections.0.weight": -leaves["wz.weight"]}
    yield from layer(case, leaves, "mingru", common(config), tensors)
