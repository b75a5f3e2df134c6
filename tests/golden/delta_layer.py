"""What the adapters of whole delta rule layers share: the named model's mixer with the parameters of the case."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.models.build import Builder
from tests.compose import compose
from tests.golden.case import Case
from tests.golden.replay import algorithms, call, finish, leaves_of

Tensors = dict[str, Tensor]


def build(case: Case, model: str, algorithm: str, **sizes: Any) -> EosMixer:
    """The mixer of a named model in double precision; `sizes` are overrides with `__` for dots."""
    config = case.config
    assert config["qk_l2norm"] and config["norm_before_gate"] and not config["conv_bias"] and not config["bias"]
    assert config["conv_activation"] == "silu" and config["beta_activation"] == "sigmoid"
    settings = {
        "model.d_model": config["d_model"],
        "mixer.algorithm": algorithm,
        "mixer.gate": config["gate_activation"],
        "expand.epsilon": config["qk_l2norm_eps"],
        "shrink.epsilon": config["qk_l2norm_eps"],
        "normaliser.epsilon": config["norm_eps"],
        "oscillation.largest_strength": config["beta_max"],
        **{f"{stage}.kernel_size": config["conv_kernel"] for stage in ("input", "expand", "shrink")},
        **{name.replace("__", "."): value for name, value in sizes.items()},
    }
    composed = compose(f"model={model}", *(f"{key}={value}" for key, value in settings.items()))
    mixer = Builder(composed).mixer(composed, 0, "layer").double()
    assert isinstance(mixer, EosMixer)
    return mixer


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
        parameters: the mixer's parameters from the leaves.
    """
    for name in algorithms(build(case, model, "auto", **sizes)):
        leaves = leaves_of(case)
        outputs, _ = call(build(case, model, name, **sizes), parameters(leaves), leaves["x"])
        assert outputs.dtype == torch.float64
        yield from finish(case, name, leaves, {"y": outputs})
