"""What the adapters of whole delta rule layers share: the named model's mixer with the parameters of the case."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tests.golden.case import Case
from tests.golden.given import named
from tests.golden.replay import algorithms, call, finish, leaves_of

Tensors = dict[str, Tensor]


def common(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that every case names."""
    assert config["qk_l2norm"] and config["norm_before_gate"] and not config["conv_bias"] and not config["bias"]
    assert config["conv_activation"] == "silu" and config["beta_activation"] == "sigmoid"
    return {
        "model.d_model": config["d_model"],
        "mixer.output.gate": config["gate_activation"],
        "expand.epsilon": config["qk_l2norm_eps"],
        "shrink.epsilon": config["qk_l2norm_eps"],
        "normaliser.epsilon": config["norm_eps"],
        "oscillation.largest_beta": config["beta_max"],
        **{f"{stage}.kernel_size": config["conv_kernel"] for stage in ("input", "expand", "shrink")},
    }


def projections(weights: Tensors, taps: Tensors) -> Tensors:
    """Weights and convolutions of query, key and value, as [out in] and [channels 1 taps] of the case."""
    stages = {"q": "shrink", "k": "expand", "v": "input"}
    found = {f"{stages[name]}.project.projection.weight": weight for name, weight in weights.items()}
    # taps of the case are in the order of time, ours count backwards
    return found | {
        f"{stages[name]}.project.convolution.weight": tap.squeeze(1).flip(1).t() for name, tap in taps.items()
    }


def split(weight: Tensor, *sizes: int) -> Tensors:
    """Rows of query, key and value, in this order."""
    return dict(zip("qkv", weight.split(sizes), strict=True))


def replay_layer(case: Case, model: str, sizes: dict[str, Any], parameters: Any) -> Iterator[tuple[str, Tensors]]:
    """Outputs and gradients of the case under each algorithm.

    Args:
        sizes: settings by their paths, on top of the common ones.
        parameters: the mixer's parameters from the leaves.
    """
    settings = {**common(case.config), **sizes}
    for name in algorithms(named(model, settings)):
        leaves = leaves_of(case)
        outputs, _ = call(named(model, settings, name), parameters(leaves), leaves["x"])
        assert outputs.dtype == torch.float64
        yield from finish(case, name, leaves, {"y": outputs})
