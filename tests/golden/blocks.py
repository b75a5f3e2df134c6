"""Blocks around mixers: norm before or after, residual, as the reference layers have them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.models.block import Block

NORMS = {"layernorm": "layer"}
OUTPUTS = {"full_glu": "full_glu", "half_glu1": "half_glu1", "half_glu2": "half_glu2", "gelu": "none"}


def block_of(config: dict[str, Any], mixer: EosMixer) -> Block:
    """The block of a layer case, without channel mixer."""
    assert config["residual"] and config["norm"] in NORMS
    placement = "pre" if config["prenorm"] else "post"
    return Block(
        mixer, None, config["H"], NORMS[config["norm"]], config["norm_eps"], config["dropout"], placement, False
    ).double()


def block_tensors(tensors: dict[str, Tensor], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The block's parameters from the mixer's and the case's."""
    found = {f"mixer.{name}": value for name, value in tensors.items()}
    names = {"norm": "mixer_norm", "out1": "mixer.output.project", "out2": "mixer.output.select"}
    for theirs, ours in names.items():
        for kind in ("weight", "bias"):
            if f"{theirs}.{kind}" in leaves:
                found[f"{ours}.{kind}"] = leaves[f"{theirs}.{kind}"]
    return found
