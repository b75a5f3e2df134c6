"""A data-driven decay of every row, read before the step, and a bonus for the current token."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer, State
from lcsm.stages.rwkv.bonus import BonusDataDriven
from lcsm.structures import Diagonal
from tests.golden.case import Case
from tests.golden.given import GivenOscillation, GivenSource, build, heads, identity, replayed
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["bonus"] and config["read_before_decay"]
    num_heads, rows = config["H"], config["k"]
    width = num_heads * rows

    def make(**settings: str) -> EosMixer:
        source = GivenSource(num_heads * config["d"], shrink=(config["scale"] * leaves["q"]).flatten(2))
        decay = GivenOscillation(Diagonal(log_decay=leaves["w"][..., None]), "LHN")
        shrink = BonusDataDriven(
            width, num_heads, rows, 0, 1, "identity", False, None, None, False, True, "rwkv", "identity"
        )
        sizes = (num_heads, rows, config["d"])
        return build(sizes, leaves["v"], leaves["k"], decay, shrink, source=source, **settings)

    def found(outputs: Tensor, state: State) -> dict[str, Tensor]:
        return {"y": heads(outputs, num_heads), "m_final": state.memory}

    tensors = {"shrink.projection.weight": identity(width), "shrink.bonus": leaves["u"]}
    yield from replayed(case, leaves, make, tensors, found, state=State(leaves.get("m_init")))
