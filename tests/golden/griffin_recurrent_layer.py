"""Griffin's recurrent layer: projection, short convolution, RG-LRU, gate."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.golden.case import Case
from tests.golden.given import activation, layer, taps
from tests.golden.replay import leaves_of
from tests.golden.rglru_layer import common, parameters


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["gate_structure"] == "block_diagonal" and config["bias"] and config["conv_bias"]
    settings = {
        **common(config),
        "mixer.num_heads": config["lru_width"],
        "mixer.output.gate": config["gate_activation"],
        "source.width": config["lru_width"],
        "source.kernel_size": config["conv_kernel"],
        "source.activation": activation(config["conv_activation"]),
        "oscillation.blocks": config["heads"],
    }
    names = {"source.projection": "linear_x", "output.gate": "linear_y", "output.project": "linear_out"}
    tensors = {
        f"{ours}.{kind}": leaves[f"{theirs}.{kind}"] for ours, theirs in names.items() for kind in ("weight", "bias")
    }
    tensors |= {
        **parameters(leaves, "rg_lru."),
        "source.convolution.weight": taps(leaves["conv_1d.weight"]),
        "source.convolution.bias": leaves["conv_1d.bias"],
    }
    yield from layer(case, leaves, "griffin", settings, tensors)
