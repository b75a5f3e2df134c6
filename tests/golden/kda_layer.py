"""A whole Kimi Delta Attention layer."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.golden.case import Case
from tests.golden.delta_layer import projections, replay_layer, split


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config = case.config
    heads, size = config["heads"], config["head_dim"]
    assert config["conv_order"] == "q,k,v concatenated"
    assert config["decay_rule"] == "-exp(A_log_h)*softplus(W_fb W_fa x + dt_bias)"

    def parameters(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        weights = {name: leaves[f"{name}_proj.weight"] for name in "qkv"}
        return {
            **projections(weights, split(leaves["conv1d.weight"], *[heads * size] * 3)),
            "oscillation.project.weight": leaves["b_proj.weight"],
            "oscillation.forget.reduce.weight": leaves["forget_gate.f_a_proj.weight"],
            "oscillation.forget.project.weight": leaves["forget_gate.f_b_proj.weight"],
            "oscillation.forget.log_rate": leaves["forget_gate.A_log"].flatten(),
            "oscillation.forget.bias": leaves["forget_gate.dt_bias"],
            "output.normaliser.weight": leaves["o_norm.weight"],
            "output.gate.0.weight": leaves["g_a_proj.weight"],
            "output.gate.1.weight": leaves["g_b_proj.weight"],
            "output.project.weight": leaves["o_proj.weight"],
        }

    sizes = {
        "mixer.num_heads": heads,
        "mixer.state_dim": size,
        "mixer.value_dim": size,
        "mixer.output.gate_rank": size,
    }
    return replay_layer(case, "kda", sizes, parameters)
