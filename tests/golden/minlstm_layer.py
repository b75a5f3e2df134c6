"""A minLSTM layer: forget and input gate of every channel sum to one."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.golden.case import Case
from tests.golden.given import layer, setting
from tests.golden.mingru_layer import common, parameters
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["fi_activation"] == "sigmoid" and config["wfi_order"] == "per head: f rows then i rows"
    settings = {**common(config), "oscillation.epsilon": setting(config["normalise_eps"])}
    gates = leaves["wfi.weight"].unflatten(0, (config["heads"], 2, -1)).unbind(1)
    tensors = parameters(leaves)
    for name, gate in zip(("forget", "input"), gates, strict=True):
        tensors[f"oscillation.project_{name}.weight"] = gate.flatten(0, 1)
    yield from layer(case, leaves, "minlstm", settings, tensors)
