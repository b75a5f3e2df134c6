"""An RG-LRU: gated decays of every channel, with block-diagonal gates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.base import Source
from lcsm.stages.channels import GatedChannels
from lcsm.stages.expand import HandCrafted as Expand
from lcsm.stages.oscillation.rg_lru import RgLru
from lcsm.stages.shrink import HandCrafted as Shrink
from tests.golden.case import Case
from tests.golden.given import build, layer
from tests.golden.replay import leaves_of


def recurrence(
    config: dict[str, Any], channels: int, blocks: int, repeats: int, source: Source | None = None, **settings: Any
) -> EosMixer:
    """A mixer of one RG-LRU over `channels` channels."""
    return build(
        (channels, 1, 1),
        GatedChannels(channels, channels, 1, blocks, config["gate_bias"]),
        Expand(channels, 1, "ones", "identity"),
        RgLru(
            channels,
            channels,
            config["decay_constant"],
            blocks,
            config["gate_bias"],
            repeats,
            [0.9, 0.999],
            not config["first_step_sqrt"],
        ),
        Shrink(channels, 1, "ones", "identity"),
        source=source,
        **{"d_model": channels, **settings},
    )


def parameters(leaves: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """The stages' parameters; the gates are stored per head as (in, out)."""
    tensors = {"oscillation.rate": leaves[f"{prefix}recurrent_param"]}
    for ours, theirs in (("input.gate", "input_gate"), ("oscillation.gate", "recurrent_gate")):
        tensors[f"{ours}.weight"] = leaves[f"{prefix}{theirs}_weight"].transpose(1, 2)
        tensors[f"{ours}.bias"] = leaves[f"{prefix}{theirs}_bias"].flatten()
    return tensors


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["gate_structure"] == "block_diagonal" and config["gate_weight_layout"] == "head_in_out"

    def make(**settings: str) -> EosMixer:
        return recurrence(config, config["d_model"], config["heads"], 1, **settings)

    yield from layer(case, leaves, make, parameters(leaves))
