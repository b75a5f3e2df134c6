"""H3 with explicit kernels in place of both systems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.long_convolution.products import ShiftedProduct
from tests.golden.case import Case
from tests.golden.convolutions import ACTIVATIONS, check, convolve, evaluate
from tests.golden.longconv_kernel import kernel
from tests.golden.replay import algorithms, call, finish, leaves_of

PLACES = {
    "k_proj": "input.project_key",
    "v_proj": "input.project_value",
    "q_proj": "output.gate",
    "output_linear": "output.project",
}


def make(config: dict[str, Any], **settings: Any) -> EosMixer:
    """The layer."""
    width, span = config["d_model"], config["l_max"]
    lags = min(config["length"], span)
    return convolve(
        ShiftedProduct(width, 1, width, True, lags, lambda: kernel(config, 1, span, width)),
        kernel(config, 1, span, width),
        skip="inputs",
        gate="identity",
        bias=True,
        activation=ACTIVATIONS[config["activation"]],
        output="linear",
        **settings,
    )


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    check(case, head_dim=1, causal=True, skip=True, layout="BLD")
    config, leaves = case.config, leaves_of(case)
    width, span = config["d_model"], config["l_max"]
    tensors = {
        "input.block.shrink.taps": leaves["k_kernel.raw"].mT,
        "input.block.skip": leaves["k_D"][None],
        "shrink.taps": leaves["kernel.raw"].mT,
        "skip.weight": leaves["D"],
    }
    for name, place in PLACES.items():
        tensors |= {f"{place}.{kind}": leaves[f"{name}.{kind}"] for kind in ("weight", "bias")}
    found = {
        f"{name}.squashed": evaluate(
            kernel(config, 1, span, width), {"taps": leaves[f"{name}.raw"].mT}, lambda module: module.kernel(span)
        )[0].T
        for name in ("k_kernel", "kernel")
    }
    for name in algorithms(make(config)):
        outputs, _ = call(make(config, algorithm=name), tensors, leaves["u"])
        yield from finish(case, name, leaves, {**found, "y": outputs})
