"""A data-driven decay per head."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer, State
from lcsm.structures import Diagonal
from tests.golden.case import Case
from tests.golden.given import GivenOscillation, build, heads, replayed
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    sizes = (config["H"], config["k"], config["d"])

    def make(**settings: str) -> EosMixer:
        decay = GivenOscillation(Diagonal(log_decay=leaves["g"][..., None, None]), "LH")
        return build(sizes, leaves["v"], leaves["k"], decay, config["scale"] * leaves["q"], **settings)

    def found(outputs: Tensor, state: State) -> dict[str, Tensor]:
        return {"y": heads(outputs, config["H"]), "m_final": state.memory}

    yield from replayed(case, leaves, make, {}, found, state=State(leaves.get("m_init")))
