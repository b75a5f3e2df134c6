"""Linear attention in second-order Taylor features."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.decay.ones import Ones
from lcsm.stages.normaliser import Denominator
from lcsm.stages.vectors.taylor import TaylorExpand, TaylorShrink
from tests.golden.case import Case
from tests.golden.given import GivenSource, build, heads, identity, replayed
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["feature_map"] == "taylor_2" and config["feature_map_applied_inside"] and config["normalize"]
    num_heads, features = config["H"], config["k"]
    rows, width = 1 + features + features**2, num_heads * features
    # the features divide by sqrt(k) themselves
    query = (config["scale"] * features**0.5 * leaves["q"]).flatten(2)

    def make(**settings: str) -> EosMixer:
        source = GivenSource(num_heads * config["d"], expand=leaves["k"].flatten(2), shrink=query)
        expand, shrink = TaylorExpand(width, num_heads, rows), TaylorShrink(width, num_heads, rows)
        sizes, normaliser = (num_heads, rows, config["d"]), Denominator("add", config["eps"])
        return build(sizes, leaves["v"], expand, Ones(), shrink, normaliser, source, **settings)

    tensors = {f"{stage}.projection.weight": identity(width) for stage in ("expand", "shrink")}
    yield from replayed(case, leaves, make, tensors, lambda outputs, state: {"y": heads(outputs, num_heads)})
