"""A TransNormerLLM layer: fixed decay per head, slower in upper layers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.expand import DataDriven as Expand
from lcsm.stages.input import Projection
from lcsm.stages.normaliser import RmsNorm
from lcsm.stages.oscillation.fixed_decay import FORMULAS, FixedDecay
from lcsm.stages.shrink import DataDriven as Shrink
from tests.golden.case import Case
from tests.golden.given import build, layer
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["qkv_order"] == "per head: q, k, v" and config["scale"] == 1 and not config["bias"]
    assert config["norm"] == "rmsnorm_all_heads" and config["norm_before_gate"]
    width, num_heads, rows = config["d_model"], config["heads"], config["head_dim"]
    position = (config["layer_index"], config["num_layers"])
    torch.testing.assert_close(-FORMULAS["tnl"](num_heads, *position), torch.tensor(config["slopes"]))

    def make(**settings: str) -> EosMixer:
        activation = config["qkv_activation"]
        common = (width, num_heads, rows, activation, False, None, None, False)
        return build(
            (num_heads, rows, rows),
            Projection(width, num_heads, rows, activation, False, None),
            Expand(*common),
            FixedDecay(num_heads, rows, rows, *position, "scalar", "tnl", None),
            Shrink(*common),
            RmsNorm(num_heads, rows, 1, "heads", config["norm_eps"]),
            d_model=width,
            gate=config["gate_activation"],
            output="linear",
            **settings,
        )

    parts = leaves["qkv_proj.weight"].unflatten(0, (num_heads, 3, rows)).unbind(1)
    tensors = {
        f"{stage}.projection.weight": part.flatten(0, 1)
        for stage, part in zip(("shrink", "expand", "input"), parts, strict=True)
    }
    tensors |= {
        "normaliser.weight": leaves["norm.weight"].view(num_heads, rows),
        "output.gate.weight": leaves["output_gate.weight"],
        "output.project.weight": leaves["out_proj.weight"],
    }
    yield from layer(case, leaves, make, tensors)
