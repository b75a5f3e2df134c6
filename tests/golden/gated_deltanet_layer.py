"""A whole Gated DeltaNet layer, with grouped values: several value heads share a key and a query."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tests.golden.case import Case
from tests.golden.delta_layer import projections, replay_layer, split


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config = case.config
    groups, heads = config["key_heads"], config["value_heads"]
    size, width, shared = config["head_k_dim"], config["head_v_dim"], heads // groups
    assert config["decay_rule"] == "-exp(A_log)*softplus(a+dt_bias)"

    def parameters(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        # one block of rows per key head
        blocks = leaves["in_proj_qkvz.weight"].unflatten(0, (groups, -1))
        parts = blocks.split((size, size, shared * width, shared * width), 1)
        *weights, gate = (value.flatten(0, 1) for value in parts)
        beta, step = leaves["in_proj_ba.weight"].unflatten(0, (groups, 2, shared)).unbind(1)
        taps = split(leaves["conv1d.weight"], groups * size, groups * size, heads * width)
        return {
            **projections(dict(zip("qkv", weights, strict=True)), taps),
            "oscillation.project.weight": beta.flatten(0, 1),
            "oscillation.forget.project.weight": step.flatten(0, 1),
            "oscillation.forget.log_rate": leaves["A_log"],
            "oscillation.forget.bias": leaves["dt_bias"],
            "output.normaliser.weight": leaves["norm.weight"],
            "output.gate.weight": gate,
            "output.project.weight": leaves["out_proj.weight"],
        }

    assert torch.isclose(torch.tensor(config["scale"]), torch.tensor(size**-0.5))
    sizes = {
        "mixer.num_heads": heads,
        "mixer.state_dim": size,
        "mixer.value_dim": width,
        "expand.num_groups": groups,
    }
    return replay_layer(case, "gated_deltanet", sizes, parameters)
