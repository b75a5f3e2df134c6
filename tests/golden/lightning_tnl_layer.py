"""A TransNormerLLM layer: fixed decay per head, slower in upper layers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lcsm.stages.decay.fixed import FORMULAS
from tests.golden.case import Case
from tests.golden.given import activation, layer
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["qkv_order"] == "per head: q, k, v" and config["scale"] == 1 and not config["bias"]
    assert config["norm"] == "rmsnorm_all_heads" and config["norm_before_gate"]
    num_heads, rows = config["heads"], config["head_dim"]
    position = (config["layer_index"], config["num_layers"])
    torch.testing.assert_close(-FORMULAS["tnl"](num_heads, *position), torch.tensor(config["slopes"]))
    settings = {
        "model.d_model": config["d_model"],
        "model.num_layers": config["num_layers"],
        "mixer.num_heads": num_heads,
        "mixer.state_dim": rows,
        "mixer.value_dim": rows,
        "mixer.output.gate": config["gate_activation"],
        # the release: another formula than the paper's, and a norm with weights
        "oscillation": "tnl",
        "normaliser.weight": "heads",
        "normaliser.epsilon": config["norm_eps"],
    }
    for stage in ("input", "expand", "shrink"):
        settings[f"{stage}.activation"] = activation(config["qkv_activation"])
    parts = leaves["qkv_proj.weight"].unflatten(0, (num_heads, 3, rows)).unbind(1)
    tensors = {
        f"{stage}.projection.weight": part.flatten(0, 1)
        for stage, part in zip(("shrink", "expand", "input"), parts, strict=True)
    }
    tensors |= {
        "output.normaliser.weight": leaves["norm.weight"].view(num_heads, rows),
        "output.gate.weight": leaves["output_gate.weight"],
        "output.project.weight": leaves["out_proj.weight"],
    }
    yield from layer(case, leaves, "tnl", settings, tensors, config["layer_index"])
