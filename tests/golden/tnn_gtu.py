"""The gated Toeplitz unit of TNN."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lcsm.stages.base import Normaliser
from lcsm.stages.input import Projection
from lcsm.stages.normaliser import LayerNorm, RmsNorm
from tests.golden.case import Case
from tests.golden.convolutions import ACTIVATIONS, check, convolve
from tests.golden.replay import algorithms, call, finish, leaves_of
from tests.golden.tnn_rpe import kernel
from tests.golden.tnn_tno import kernel_parameters


def norm(config: dict[str, Any]) -> Normaliser | None:
    """The norm after the gate, over all heads."""
    if not config["use_norm"]:
        return None
    sizes = (config["heads"], config["dim"])
    if config["norm_type"] == "layernorm":
        return LayerNorm(*sizes, False, "weight_and_bias", config["norm_eps"])
    # the reference adds its constant to the root, not to the square
    return RmsNorm(*sizes, 1, "heads" if config["norm_type"] == "rmsnorm" else "none", config["norm_eps"] ** 2)


def parameters(config: dict[str, Any], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mixer's parameters from the case's."""
    places = {"v_proj": "input.projection", "u_proj": "output.gate", "o": "output.project", "norm": "normaliser"}
    found = {f"shrink.{name}": value for name, value in kernel_parameters(config, leaves).items()}
    for symbol, value in leaves.items():
        module, _, kind = symbol.rpartition(".")
        if module in places:
            value = value.unflatten(0, (config["heads"], config["dim"])) if module == "norm" else value
            found[f"{places[module]}.{'weight' if kind == 'scale' else kind}"] = value
    return found


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    check(case, normalize=False, layout="BLD", d_inner=config["heads"] * config["dim"])
    activation, width = ACTIVATIONS[config["activation"]], config["d_model"]

    def make(**chosen: Any) -> Any:
        return convolve(
            Projection(width, config["heads"], config["dim"], activation, config["bias"], None),
            kernel(config, config["heads"], config["dim"]),
            None,
            norm(config),
            d_model=width,
            reverse="none" if config["causal"] else "tied",
            gate=activation,
            norm="after",
            bias=config["bias"],
            output="linear",
            **chosen,
        )

    for name in algorithms(make()):
        outputs, _ = call(make(algorithm=name), parameters(config, leaves), leaves["x"])
        yield from finish(case, name, leaves, {"y": outputs})
