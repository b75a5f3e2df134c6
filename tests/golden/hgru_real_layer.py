"""A gated recurrence of every channel, whose complement is written; norm and gate on what is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.base import Input, Shrink
from lcsm.stages.expand import HandCrafted as Ones
from lcsm.stages.input import Projection
from lcsm.stages.normaliser import LayerNorm
from lcsm.stages.oscillation.gate import Gate
from lcsm.stages.shrink import HandCrafted
from tests.golden.case import Case
from tests.golden.given import build, layer
from tests.golden.replay import leaves_of


def recurrence(config: dict[str, Any], input: Input, shrink: Shrink, phase: str, **settings: Any) -> EosMixer:
    """A mixer of one recurrence."""
    assert config["forget_activation"] == "sigmoid" and config["norm"] == "layernorm" and config["bias"]
    assert config["norm_before_gate"]
    width = config["d_model"]
    base = None if phase == "none" else 1e4
    gate = Gate(
        width, width, 1, 1, 0, 1, {}, "scalar", 1.0, None, True, config["lower_bound"], True, phase, base
    )  # fmt: skip
    normaliser = LayerNorm(width, shrink.output_dim or 1, False, "weight_and_bias", config["norm_eps"])
    rest = {"gate": config["gate_activation"], "bias": True, "output": "linear", "d_model": width, **settings}
    return build((width, 1, 1), input, Ones(width, 1, "ones", "identity"), gate, shrink, normaliser, **rest)


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
    return tensors | {f"normaliser.{kind}": leaves[f"norm.{kind}"].view(width, -1) for kind in ("weight", "bias")}


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    width = config["d_model"]

    def make(**settings: str) -> EosMixer:
        projection = Projection(width, width, 1, config["input_activation"], True, None)
        return recurrence(config, projection, HandCrafted(width, 1, "ones", "identity"), "none", **settings)

    yield from layer(case, leaves, make, parameters(leaves))
