"""Griffin's recurrent layer: projection, short convolution, RG-LRU, gate."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.source import Projected
from tests.golden.case import Case
from tests.golden.given import layer, taps
from tests.golden.replay import ACTIVATIONS, leaves_of
from tests.golden.rglru_layer import parameters, recurrence


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["gate_structure"] == "block_diagonal" and config["bias"] and config["conv_bias"]
    width, channels = config["d_model"], config["lru_width"]

    def make(**settings: str) -> EosMixer:
        activation = ACTIVATIONS.get(config["conv_activation"], config["conv_activation"])
        source = Projected(width, channels, True, config["conv_kernel"], activation)
        rest = {"d_model": width, "gate": config["gate_activation"], "bias": True, "output": "linear", **settings}
        return recurrence(config, channels, config["heads"], 1, source, **rest)

    names = {"source.projection": "linear_x", "output.gate": "linear_y", "output.project": "linear_out"}
    tensors = {
        f"{ours}.{kind}": leaves[f"{theirs}.{kind}"] for ours, theirs in names.items() for kind in ("weight", "bias")
    }
    tensors |= {
        **parameters(leaves, "rg_lru."),
        "source.convolution.weight": taps(leaves["conv_1d.weight"]),
        "source.convolution.bias": leaves["conv_1d.bias"],
    }
    yield from layer(case, leaves, make, tensors)
