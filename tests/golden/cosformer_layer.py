"""A cosFormer layer: relu features, weights that fall as a cosine of the lag."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.expand import DataDriven as Expand
from lcsm.stages.input import Projection
from lcsm.stages.normaliser import Denominator
from lcsm.stages.oscillation.fixed_decay import UniformRotation
from lcsm.stages.shrink import DataDriven as Shrink
from tests.golden.case import Case
from tests.golden.given import build, layer
from tests.golden.replay import leaves_of

RULES = {"clamp_min": "clamp", "add": "add"}
STAGES = {"input.projection": "v_proj", "expand.projection": "k_proj", "shrink.projection": "q_proj"}


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["normalize"] and config["bias"] and config["scale"] == 1
    width, num_heads, rows = config["d_model"], config["heads"], config["head_dim"]

    def make(**settings: str) -> EosMixer:
        common = (width, num_heads, rows, config["qk_activation"], True, None, None, False)
        return build(
            (num_heads, rows, rows),
            Projection(width, num_heads, rows, "identity", True, None),
            Expand(*common),
            UniformRotation(config["max_length"]),
            Shrink(*common),
            Denominator(RULES[config["eps_mode"]], config["eps"]),
            d_model=width,
            output="linear",
            bias=True,
            **settings,
        )

    names = {**STAGES, "output.project": "out_proj"}
    tensors = {
        f"{ours}.{kind}": leaves[f"{theirs}.{kind}"] for ours, theirs in names.items() for kind in ("weight", "bias")
    }
    yield from layer(case, leaves, make, tensors)
