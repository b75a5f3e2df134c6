"""The kernel of LongConv: smoothed and squashed taps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lcsm.stages.long_convolution.explicit import ExplicitKernel
from tests.golden.case import Case
from tests.golden.convolutions import check, evaluate
from tests.golden.replay import finish, leaves_of

INITS = {"random": "normal", "double_exp": "double_exp"}


def kernel(config: dict[str, Any], heads: int, span: int, channels: int) -> ExplicitKernel:
    """The kernel that a configuration describes; every copy of the channels is a head. Taps are replaced anyway."""
    smooth = config.get("smooth", "none")
    return ExplicitKernel(
        heads,
        span,
        channels,
        span,
        init=INITS[config.get("weight_init", "random")],
        std=1.0,
        smooth=smooth,
        window=None if smooth == "none" else config["ma_window_len"],
        squash=config["lam"] if config.get("squash", True) else 0.0,
        dropout=config["kernel_dropout"],
    ).double().eval()  # fmt: skip


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The kernel over its whole length."""
    check(case)
    config, leaves = case.config, leaves_of(case)
    stage = kernel(config, config["channels"], config["length"], config["H"])
    tensors = {"taps": leaves["raw"].mT}
    found = evaluate(stage, tensors, lambda module: module.kernel(config["length"])).mT
    yield from finish(case, "kernel", leaves, {"kernel": found})
