"""A fixed decay per head."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lcsm.mixers.eos import EosMixer, State
from lcsm.stages.decay.fixed import FORMULAS, FixedDecay
from tests.golden.case import Case
from tests.golden.given import build, heads, replayed
from tests.golden.replay import leaves_of

RULES = {"1-2^(-5-h)": "retnet"}


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    rule, sizes = RULES[config["decay_rule"]], (config["H"], config["k"], config["d"])
    torch.testing.assert_close(FORMULAS[rule](config["H"], 0, 1).exp(), torch.tensor(config["decay"]))

    def make(**settings: str) -> EosMixer:
        decay = FixedDecay(*sizes, 0, 1, "scalar", rule, None)
        return build(sizes, leaves["v"], leaves["k"], decay, config["scale"] * leaves["q"], **settings)

    def found(outputs: Tensor, state: State) -> dict[str, Tensor]:
        return {"y": heads(outputs, config["H"]), "m_final": state.memory}

    yield from replayed(case, leaves, make, {}, found, state=State(leaves.get("m_init")))
