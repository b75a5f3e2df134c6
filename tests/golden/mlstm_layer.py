"""An mLSTM layer: soft-capped gates, denominator, norm of each head, gate."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.expand import DataDriven as Expand
from lcsm.stages.input import Projection
from lcsm.stages.normaliser import NormalisedDenominator
from lcsm.stages.oscillation.two_gates import ExponentialInputGate
from lcsm.stages.shrink import DataDriven as Shrink
from tests.golden.case import Case
from tests.golden.given import build, layer
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["norm"] == "layernorm_per_head_no_bias" and config["norm_before_gate"] and not config["bias"]
    assert config["initial_log_scale"] == "zero" and abs(config["scale"] - config["head_qk_dim"] ** -0.5) < 1e-12
    cap = None if config["gate_soft_cap"] == "none" else config["gate_soft_cap"]
    width, num_heads, rows, columns = (config[key] for key in ("d_model", "heads", "head_qk_dim", "head_v_dim"))

    def make(**settings: str) -> EosMixer:
        common = (width, num_heads, rows, "identity", False, None, None)
        return build(
            (num_heads, rows, columns),
            Projection(width, num_heads, columns, "identity", False, None),
            Expand(*common, False),
            ExponentialInputGate(width, num_heads, cap, [3.0, 6.0], -10.0, 0.0),
            Shrink(*common, True),
            NormalisedDenominator(num_heads, columns, "at_least_one", config["eps"], config["norm_eps"]),
            d_model=width,
            gate=config["gate_activation"],
            output="linear",
            **settings,
        )

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
        "normaliser.norm.weight": leaves["multihead_norm.weight"].view(num_heads, columns),
    }
    yield from layer(case, leaves, make, tensors)
