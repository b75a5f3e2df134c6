"""A gated recurrence of every channel, whose complement is written; norm and gate on what is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from tests.golden.case import Case
from tests.golden.given import activation, layer
from tests.golden.replay import leaves_of


def common(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of one recurrence."""
    assert config["forget_activation"] == "sigmoid" and config["norm"] == "layernorm" and config["bias"]
    assert config["norm_before_gate"]
    return {
        "model.d_model": config["d_model"],
        "mixer.output.gate": config["gate_activation"],
        "input.activation": activation(config["input_activation"]),
        "oscillation.lower_bound": config["lower_bound"],
        "normaliser.epsilon": config["norm_eps"],
    }


def parameters(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mixer's parameters, the norm's with an axis for what each channel gives."""
    names = {
        "input.projection": "input_proj",
        "oscillation.projections.0": "lambda_proj",
        "output.gate": "gate",
        "output.project": "out_proj",
        "normaliser": "norm",
    }
    tensors = {
        f"{ours}.{kind}": leaves[f"{theirs}.{kind}"] for ours, theirs in names.items() for kind in ("weight", "bias")
    }
    width = leaves["lambda_proj.bias"].shape[0]
    return tensors | {
        f"output.normaliser.{kind}": leaves[f"norm.{kind}"].view(width, -1) for kind in ("weight", "bias")
    }


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    yield from layer(case, leaves, "hgrn", common(config), parameters(leaves))
