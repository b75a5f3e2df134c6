"""Linear attention whose rows turn by learned angles."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.decay.rotation import Rotation
from tests.golden.case import Case
from tests.golden.given import build, heads, replayed
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    sizes = (config["H"], config["k"], config["d"])

    def make(**settings: str) -> EosMixer:
        rotation = Rotation(config["H"], config["k"], True, config["theta_base"])
        return build(sizes, leaves["v"], leaves["k"], rotation, config["scale"] * leaves["q"], **settings)

    tensors = {"oscillation.angles": leaves["theta"][:, 0]}
    yield from replayed(case, leaves, make, tensors, lambda outputs, state: {"y": heads(outputs, config["H"])})
