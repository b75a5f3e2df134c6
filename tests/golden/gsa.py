"""Two memories with shared gates, a softmax over slots between them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lcsm.mixers.eos import EosMixer, State
from lcsm.stages.gated.gsa import SlotShrink
from lcsm.stages.vectors.expand import HandCraftedExpand
from lcsm.structures import Diagonal
from tests.golden.case import Case
from tests.golden.given import GivenOscillation, GivenSource, build, heads, replayed, selection
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    num_heads, slots, keys = config["H"], config["slots"], config["k"]
    width = num_heads * keys
    seen = torch.cat([leaves["k"].flatten(2), (config["scale"] * leaves["q"]).flatten(2)], -1)

    def make(**settings: str) -> EosMixer:
        structure = Diagonal(log_decay=leaves["g"][..., None], gain=leaves["s"][..., None])
        return build(
            (num_heads, slots, config["d"]),
            leaves["v"],
            HandCraftedExpand(num_heads, slots, "ones", "identity"),
            GivenOscillation(structure, "LHN", gain="LHN"),
            SlotShrink(2 * width, num_heads, slots, keys, "identity", scaled=False),
            source=GivenSource(num_heads * config["d"], shrink=seen),
            **settings,
        )

    def found(outputs: Tensor, state: State) -> dict[str, Tensor]:
        return {"y": heads(outputs, num_heads), "hk_final": state.shrink, "hv_final": state.memory}

    names = ("shrink.project_key.weight", "shrink.project_query.weight")
    tensors = dict(zip(names, selection(width, width), strict=True))
    state = State(leaves.get("hv_init"), shrink=leaves.get("hk_init"))
    yield from replayed(case, leaves, make, tensors, found, state=state)
