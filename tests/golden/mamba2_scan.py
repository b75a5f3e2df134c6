"""A data-driven step size per head, B and C shared by the heads of a group, D skip."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer, State
from lcsm.stages.state_space.mamba2 import HeadStep
from lcsm.stages.vectors.expand import DataDrivenExpand as Expand
from lcsm.stages.vectors.shrink import DataDrivenShrink as Shrink
from tests.golden.case import Case
from tests.golden.given import GivenSource, build, heads, identity, replayed
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["dt_activation"] == "softplus" and config["dt_bias"] and config["gate"] == "none"
    assert config["A_form"] == "negative_real" and config["dt_limit"] == "none" and config["scale"] == 1
    num_heads, rows, groups = config["H"], config["k"], config["groups"]
    width = groups * rows

    def make(**settings: str) -> EosMixer:
        parts = {"expand": leaves["B"].flatten(2), "shrink": leaves["C"].flatten(2), "oscillation": leaves["dt"]}
        common = (width, num_heads, rows, "identity", False, None, groups, False)
        return build(
            (num_heads, rows, config["d"]),
            leaves["x"],
            Expand(*common),
            HeadStep(num_heads, num_heads, [1.0, 16.0], [1e-3, 1e-1], None),
            Shrink(*common),
            source=GivenSource(num_heads * config["d"], **parts),
            skip="heads" if config["skip"] else "none",
            **settings,
        )

    def found(outputs: Tensor, state: State) -> dict[str, Tensor]:
        return {"y": heads(outputs, num_heads), "m_final": state.memory.mT}

    tensors = {
        "expand.projection.weight": identity(width),
        "shrink.projection.weight": identity(width),
        "oscillation.projection.weight": identity(num_heads),
        "oscillation.bias": leaves["dt_bias"],
        "oscillation.log_rate": (-leaves["A"]).log(),
    }
    if config["skip"]:
        tensors["skip.weight"] = leaves["D"]
    memory = leaves["m_init"].mT if "m_init" in leaves else None
    yield from replayed(case, leaves, make, tensors, found, state=State(memory))
