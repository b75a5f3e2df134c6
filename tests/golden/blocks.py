"""Blocks around mixers: norm before or after, residual, as the reference layers have them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tests.golden.given import activation

NORMS = {"layernorm": "layer"}
OUTPUTS = {"full_glu": "full_glu", "half_glu1": "half_glu1", "half_glu2": "half_glu2", "gelu": "none"}


def block_settings(config: dict[str, Any]) -> dict[str, Any]:
    """What a layer case says of the block and of the mixer's output; the named models have no channel mixer."""
    assert config["residual"]
    return {
        "model.dropout": config["dropout"],
        "mixer.output.activation": activation(config["gelu"]),
        "mixer.output.form": OUTPUTS[config["activation"]],
        "block.norm": NORMS[config["norm"]],
        "block.epsilon": config["norm_eps"],
        "block.placement": "pre" if config["prenorm"] else "post",
    }


def block_tensors(tensors: dict[str, Tensor], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The block's parameters from the mixer's and the case's."""
    found = {f"mixer.{name}": value for name, value in tensors.items()}
    names = {"norm": "mixer_norm", "out1": "mixer.output.project", "out2": "mixer.output.select"}
    for theirs, ours in names.items():
        for kind in ("weight", "bias"):
            if f"{theirs}.{kind}" in leaves:
                found[f"{ours}.{kind}"] = leaves[f"{theirs}.{kind}"]
    return found
