"""A running softmax over time in every row."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer, State
from lcsm.stages.decay.softmax import CumulativeSoftmax
from lcsm.stages.vectors.expand import HandCraftedExpand
from lcsm.stages.vectors.shrink import DataDrivenShrink
from tests.golden.case import Case
from tests.golden.given import GivenSource, build, heads, identity, replayed
from tests.golden.replay import leaves_of

STARTS = {"minus_infinity": "zero", "zero": "one"}


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["state_is_normalised"]
    num_heads, rows = config["H"], config["k"]
    width, scaled = num_heads * rows, config["scale"] != 1
    assert not scaled or abs(config["scale"] - rows**-0.5) < 1e-12

    def make(**settings: str) -> EosMixer:
        source = GivenSource(num_heads * config["d"], oscillation=leaves["k"].flatten(2), shrink=leaves["q"].flatten(2))
        softmax = CumulativeSoftmax(width, num_heads, rows, STARTS[config["log_normaliser_start"]])
        shrink = DataDrivenShrink(width, num_heads, rows, config["q_activation"], False, None, None, scaled)
        expand, sizes = HandCraftedExpand(num_heads, rows, "ones", "identity"), (num_heads, rows, config["d"])
        return build(sizes, leaves["v"], expand, softmax, shrink, source=source, **settings)

    def found(outputs: Tensor, state: State) -> dict[str, Tensor]:
        return {"y": heads(outputs, num_heads), "m_final": state.memory}

    tensors = {f"{stage}.projection.weight": identity(width) for stage in ("oscillation", "shrink")}
    yield from replayed(case, leaves, make, tensors, found)
