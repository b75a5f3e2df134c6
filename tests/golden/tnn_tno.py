"""The Toeplitz operator of TNN: coefficients of every lag and outputs, in one or both directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lcsm.stages.input import PerChannel
from lcsm.stages.long_convolution.toeplitz import ToeplitzKernel
from tests.golden.case import Case
from tests.golden.convolutions import check, convolve, evaluate
from tests.golden.replay import algorithms, call, finish, leaves_of
from tests.golden.tnn_rpe import kernel, parameters
from tests.golden.tnn_toeplitz import joined, split


def kernel_parameters(config: dict[str, Any], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The kernel's parameters from the case's."""
    found = {f"network.{name}": value for name, value in parameters(leaves, config["rpe_layers"]).items()}
    if config["use_multi_decay"]:
        return {**found, "logits": leaves["gamma"]}
    if config["use_decay"]:
        assert torch.allclose(leaves["gamma"], torch.full_like(leaves["gamma"], config["gamma"]), rtol=1e-6)
    return found


def raw(module: ToeplitzKernel, lags: Tensor) -> Tensor:
    """The network at some lags, before the decay, [H T P]."""
    return module.undecayed(lags)


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    check(case, normalize=False, layout="BHLD")
    config, leaves = case.config, leaves_of(case)
    heads, dim, length = config["heads"], config["dim"], config["length"]
    tensors = kernel_parameters(config, leaves)
    stage = kernel(config, heads, dim).double()
    x, after = joined(leaves["x"]), torch.arange(1, length)
    coefficients = {
        "t_nonneg": evaluate(stage, tensors, lambda module: module.kernel(length)),
        "raw_zero": evaluate(stage, tensors, raw, torch.zeros(1, dtype=torch.int64)),
        "raw_pos": evaluate(stage, tensors, raw, after),
    }
    if not config["causal"]:
        unread = x.new_zeros(1, 1, 1, 1, 1)
        opposite = evaluate(stage, tensors, lambda module: module.opposite(unread, x.shape[1]))
        coefficients["t_neg"] = opposite[0, 0, :, :-1]
        coefficients["raw_neg"] = evaluate(stage, tensors, raw, -after.flip(0))
    reverse = "none" if config["causal"] else "tied"
    mixer_tensors = {f"shrink.{name}": value for name, value in tensors.items()}

    def make(**chosen: Any) -> Any:
        shrink = kernel(config, heads, dim)
        return convolve(PerChannel(heads * dim, heads, dim), shrink, reverse=reverse, **chosen)

    for name in algorithms(make()):
        outputs, _ = call(make(algorithm=name), mixer_tensors, x)
        yield from finish(case, name, leaves, {**coefficients, "y": split(outputs, heads)})
