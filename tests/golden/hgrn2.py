"""A bounded data-driven decay of every row, whose complement is written."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer, State
from lcsm.stages.gated.gate import Gate
from lcsm.stages.vectors.expand import HandCraftedExpand
from lcsm.stages.vectors.shrink import DataDrivenShrink
from tests.golden.case import Case
from tests.golden.given import GivenModule, GivenSource, build, heads, identity, replayed
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["gate_activation"] == "sigmoid" and config["tied_complement"] and config["lower_bound"] == "array"
    num_heads, rows = config["H"], config["k"]
    width, scaled = num_heads * rows, config["scale"] != 1
    assert not scaled or abs(config["scale"] - rows**-0.5) < 1e-12
    bounds = {("lower bounds", 1, num_heads, rows, 1): GivenModule(leaves["lower_bound"][..., None])}

    def make(**settings: str) -> EosMixer:
        source = GivenSource(num_heads * config["d"], oscillation=leaves["f"].flatten(2), shrink=leaves["q"].flatten(2))
        gate = Gate(
            width, num_heads, rows, 1, 0, 1, bounds, "rows", 1.0, None, False, "learned", True, "none", None
        )  # fmt: skip
        shrink = DataDrivenShrink(width, num_heads, rows, config["q_activation"], False, None, None, scaled)
        expand, sizes = HandCraftedExpand(num_heads, rows, "ones", "identity"), (num_heads, rows, config["d"])
        return build(sizes, leaves["v"], expand, gate, shrink, source=source, **settings)

    def found(outputs: Tensor, state: State) -> dict[str, Tensor]:
        return {"y": heads(outputs, num_heads), "m_final": state.memory}

    tensors = {f"{part}.weight": identity(width) for part in ("oscillation.projections.0", "shrink.projection")}
    yield from replayed(case, leaves, make, tensors, found, state=State(leaves.get("m_init")))
