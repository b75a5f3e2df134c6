"""A Based layer: linear attention in Taylor features, or in 1 + elu."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.expand import DataDriven as Expand
from lcsm.stages.features import TaylorExpand, TaylorShrink
from lcsm.stages.input import Projection
from lcsm.stages.normaliser import Denominator
from lcsm.stages.oscillation.ones import Ones
from lcsm.stages.shrink import DataDriven as Shrink
from tests.golden.case import Case
from tests.golden.given import build, layer
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["normalize"] and not config["rotary"] and not config["bias"]
    width, num_heads, features = config["d_model"], config["heads"], config["feature_dim"]
    taylor = config["feature_map"] == "taylor_exp"
    rows = 1 + features + features**2 if taylor else features

    def make(**settings: str) -> EosMixer:
        if taylor:
            expand, shrink = TaylorExpand(width, num_heads, rows), TaylorShrink(width, num_heads, rows)
        else:
            common = (width, num_heads, rows, config["feature_map"], False, None, None, False)
            expand, shrink = Expand(*common), Shrink(*common)
        return build(
            (num_heads, rows, config["head_dim"]),
            Projection(width, num_heads, config["head_dim"], "identity", False, None),
            expand,
            Ones(),
            shrink,
            Denominator("add", config["eps"]),
            d_model=width,
            output="linear",
            **settings,
        )

    names = {"input": "v", "expand": "k", "shrink": "q"}
    tensors = {f"{stage}.projection.weight": leaves[f"proj_{name}.weight"] for stage, name in names.items()}
    tensors["output.project.weight"] = leaves["proj_o.weight"]
    yield from layer(case, leaves, make, tensors)
