"""A Based layer: linear attention in Taylor features, or in 1 + elu."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.golden.case import Case
from tests.golden.given import activation, layer
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["normalize"] and not config["rotary"] and not config["bias"]
    features, taylor = config["feature_dim"], config["feature_map"] == "taylor_exp"
    settings = {
        "model.d_model": config["d_model"],
        "mixer.num_heads": config["heads"],
        "mixer.state_dim": 1 + features + features**2 if taylor else features,
        "mixer.value_dim": config["head_dim"],
        "normaliser.epsilon": config["eps"],
    }
    if not taylor:
        settings |= {f"{stage}.activation": activation(config["feature_map"]) for stage in ("expand", "shrink")}
    names = {"input": "v", "expand": "k", "shrink": "q"}
    tensors = {f"{stage}.projection.weight": leaves[f"proj_{name}.weight"] for stage, name in names.items()}
    tensors["output.project.weight"] = leaves["proj_o.weight"]
    yield from layer(case, leaves, "based" if taylor else "linear_attention", settings, tensors)
