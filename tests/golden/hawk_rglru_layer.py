"""An RG-LRU with full gates and rates that the heads share."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.golden.case import Case
from tests.golden.given import layer
from tests.golden.replay import leaves_of
from tests.golden.rglru_layer import ALONE, common


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["gate_structure"] == "dense" and config["conv"] == "none" and not config["gate_bias"]
    repeats = config["heads"] if config["a_shared_by_heads"] else 1
    settings = {**common(config), **ALONE, "oscillation.rate_repeats": repeats}
    tensors = {
        "oscillation.rate": leaves["a"],
        "oscillation.gate.weight": leaves["a_gate.weight"][None],
        "input.gate.weight": leaves["input_gate.weight"][None],
    }
    yield from layer(case, leaves, "hawk", settings, tensors)
