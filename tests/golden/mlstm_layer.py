"""An mLSTM layer: soft-capped gates, denominator, norm of each head, gate."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.golden.case import Case
from tests.golden.given import layer, setting
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["norm"] == "layernorm_per_head_no_bias" and config["norm_before_gate"] and not config["bias"]
    assert config["initial_log_scale"] == "zero" and abs(config["scale"] - config["head_qk_dim"] ** -0.5) < 1e-12
    num_heads, columns = config["heads"], config["head_v_dim"]
    settings = {
        "model.d_model": config["d_model"],
        "mixer.num_heads": num_heads,
        "mixer.state_dim": config["head_qk_dim"],
        "mixer.value_dim": columns,
        "mixer.output.gate": config["gate_activation"],
        "oscillation.soft_cap": setting(config["gate_soft_cap"]),
        "normaliser.epsilon": config["eps"],
        "normaliser.norm_epsilon": config["norm_eps"],
    }
    names = {
        "input.projection": "v",
        "expand.projection": "k",
        "shrink.projection": "q",
        "oscillation.project_forget": "fgate_preact",
        "oscillation.project_input": "igate_preact",
        "output.gate": "ogate_preact",
        "output.project": "out_proj",
    }
    tensors = {f"{ours}.weight": leaves[f"{theirs}.weight"] for ours, theirs in names.items()}
    tensors |= {
        "oscillation.project_forget.bias": leaves["fgate_preact.bias"],
        "oscillation.project_input.bias": leaves["igate_preact.bias"],
        "output.normaliser.norm.weight": leaves["multihead_norm.weight"].view(num_heads, columns),
    }
    yield from layer(case, leaves, "mlstm", settings, tensors)
