"""The network of the relative position of TNN."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lcsm.stages.long_convolution.toeplitz import ToeplitzKernel
from tests.golden.case import Case
from tests.golden.convolutions import ACTIVATIONS, check
from tests.golden.replay import call, finish, leaves_of

NORMS = {"simplermsnorm": "simple_rms", "rmsnorm": "rms", "layernorm": "layer"}
POSITIONS = {"raw": "raw", "scaled": "scaled", "exp_scaled": "exponential"}


def kernel(config: dict[str, Any], heads: int, dim: int) -> ToeplitzKernel:
    """The kernel that a configuration describes, with as many lags as the case has tokens."""
    position = POSITIONS[config.get("position", "raw")]
    assert position == {1: "raw", 2: "scaled", 3: "exponential"}[config["par_type"]]
    multiple, single = config.get("use_multi_decay", False), config.get("use_decay", False)
    decay = "learned" if multiple else "fixed" if single else "none"
    if decay != "none":
        assert config["gamma"] <= 1
    return ToeplitzKernel(
        heads,
        config["length"],
        dim,
        width=config["rpe_dim"],
        depth=config["rpe_layers"],
        activation=ACTIVATIONS[config["rpe_act"]],
        norm=NORMS[config["norm_type"]],
        norm_epsilon=config["norm_eps"],
        bias=config["rpe_bias"],
        residual=config["residual"],
        positions=position,
        divisor=None if position == "raw" else config["position_divisor"],
        decay=decay,
        gamma=None if decay == "none" else config["gamma"],
        effective_activation=ACTIVATIONS[config.get("act_type", "none")],
    )


def parameters(leaves: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """The network's parameters from the case's; index 0 of a layer is its norm, 2 its linear map."""
    found = {}
    for symbol, value in leaves.items():
        if not symbol.startswith("rpe."):
            continue
        *place, kind = symbol.removeprefix("rpe.").split(".")
        kind = "weight" if kind == "scale" else kind
        index = depth if place[0] == "out" else int(place[1]) if place[0] == "layers" else 0
        if place[0] == "pos_proj":
            name = "first"
        elif place[-1] == "0":
            name = f"norms.{index}"
        else:
            assert place[-1] == "2"
            name = "last" if place[0] == "out" else f"maps.{index}"
        found[f"{name}.{kind}"] = value
    return found


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The network at the positions of the case."""
    check(case)
    config, leaves = case.config, leaves_of(case)
    network = kernel(config, 1, config["out_dim"]).network.double()
    assert leaves["pos"].shape == (config["positions"], 1)
    found = call(network, parameters(leaves, config["rpe_layers"]), leaves["pos"][:, 0])
    yield from finish(case, "network", leaves, {"out": found})
