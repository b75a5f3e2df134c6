"""A cosFormer layer: relu features, weights that fall as a cosine of the lag."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.golden.case import Case
from tests.golden.given import activation, layer
from tests.golden.replay import leaves_of

RULES = {"clamp_min": "clamp", "add": "add"}
STAGES = {"input.projection": "v_proj", "expand.projection": "k_proj", "shrink.projection": "q_proj"}


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["normalize"] and config["bias"] and config["scale"] == 1
    rows, feature = config["head_dim"], activation(config["qk_activation"])
    settings = {
        "model.d_model": config["d_model"],
        "mixer.num_heads": config["heads"],
        "mixer.state_dim": rows,
        "mixer.value_dim": rows,
        "expand.activation": feature,
        "shrink.activation": feature,
        "oscillation.length": config["max_length"],
        "normaliser.rule": RULES[config["eps_mode"]],
        "normaliser.epsilon": config["eps"],
    }
    names = {**STAGES, "output.project": "out_proj"}
    tensors = {
        f"{ours}.{kind}": leaves[f"{theirs}.{kind}"] for ours, theirs in names.items() for kind in ("weight", "bias")
    }
    yield from layer(case, leaves, "cosformer", settings, tensors)
