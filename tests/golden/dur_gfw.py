"""A data-driven decay of every row times one of every column."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer, State
from lcsm.structures import Diagonal
from tests.golden.case import Case
from tests.golden.given import GivenOscillation, build, replayed
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    one = {symbol: value[:, :, None] for symbol, value in leaves.items() if symbol != "m_init"}

    def make(**settings: str) -> EosMixer:
        structure = Diagonal(log_decay=one["gk"][..., None], columns=one["gv"][..., None, :])
        decay, sizes = GivenOscillation(structure, "LHN+LHP"), (1, config["k"], config["d"])
        return build(sizes, one["i"], one["e"], decay, config["scale"] * one["s"], **settings)

    def found(outputs: Tensor, state: State) -> dict[str, Tensor]:
        return {"y": outputs, "m_final": state.memory[:, 0]}

    memory = leaves["m_init"][:, None] if "m_init" in leaves else None
    yield from replayed(case, leaves, make, {}, found, state=State(memory))
