"""A data-driven decay of every channel, whose input is already gated."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lcsm.mixers.eos import EosMixer, State
from lcsm.stages.vectors.expand import HandCraftedExpand as Expand
from lcsm.stages.vectors.shrink import HandCraftedShrink as Shrink
from lcsm.structures import Diagonal
from tests.golden.case import Case
from tests.golden.given import GivenOscillation, build, replayed
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["input_already_gated"]
    channels = config["D"]

    def make(**settings: str) -> EosMixer:
        decay = GivenOscillation(Diagonal(log_decay=leaves["g"][..., None, None]), "LH")
        ones = Expand(channels, 1, "ones", "identity"), Shrink(channels, 1, "ones", "identity")
        return build((channels, 1, 1), leaves["x"][..., None], ones[0], decay, ones[1], **settings)

    def found(outputs: Tensor, state: State) -> dict[str, Tensor]:
        return {"y": config["scale"] * outputs, "m_final": state.memory[..., 0, 0]}

    memory: Tensor | None = leaves["m_init"][..., None, None] if "m_init" in leaves else None
    assert memory is None or memory.dtype == torch.float64
    yield from replayed(case, leaves, make, {}, found, state=State(memory))
