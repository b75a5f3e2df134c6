"""An RG-LRU: gated decays of every channel, with block-diagonal gates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from tests.golden.case import Case
from tests.golden.given import layer
from tests.golden.replay import leaves_of

# the recurrence alone, without what stands around it in a layer
ALONE = {"source": "plain", "mixer.output.gate": "none", "mixer.output.form": "none"}


def common(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of an RG-LRU; its gates on input and decay are alike."""
    return {
        "model.d_model": config["d_model"],
        "oscillation.c": config["decay_constant"],
        "oscillation.bias": config["gate_bias"],
        "oscillation.full_start": not config["first_step_sqrt"],
    }


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
    settings = {**common(config), **ALONE, "oscillation.blocks": config["heads"]}
    yield from layer(case, leaves, "hawk", settings, parameters(leaves))
