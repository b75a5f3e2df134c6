"""The layer of LongConv, in one or both directions; where the reference leaks the future, the causal truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lcsm.stages.input import Repeated
from tests.golden.case import Case
from tests.golden.convolutions import ACTIVATIONS, check, convolve, evaluate, output
from tests.golden.longconv_kernel import kernel
from tests.golden.replay import algorithms, batched, call, finish, leaves_of, unbatched


def directions(config: dict[str, Any], raw: Tensor) -> list[Tensor]:
    """Taps of the forward direction, and of the backward one from the next token on, [C H taps] each."""
    if config["kernel_layout"] == "causal":
        return [raw]
    if config["kernel_layout"] == "forward_then_backward":
        return list(raw.chunk(2))
    # a circular kernel: the last tap is lag -1, the one before it lag -2
    assert config["kernel_layout"] == "circular_2L" and config["smooth"] == "none"
    assert raw.shape[-1] == 2 * config["length"]
    forward, backward = raw.chunk(2, -1)
    return [forward, backward.flip(-1)]


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    check(
        case,
        channel_order="channel_slow_feature_fast",
        glu_order="value_then_gate",
        kernel_cut_to_length=True,
        causal=config["kernel_layout"] == "causal",
    )
    copies, width = config["channels"], config["H"]
    parts = directions(config, leaves["raw"])
    # fewer lags than the kernel has taps where the sequence is shorter
    stages = [kernel(config, copies, part.shape[-1], width) for part in parts]
    tensors = {
        "shrink.taps": parts[0].mT,
        "second_pass.shrink.taps": parts[-1].mT,
        "skip.weight": leaves["D"].flatten(),
    }
    tensors |= output(leaves, config["postact"])
    kernels = [
        evaluate(stage, {"taps": part.mT}, lambda module: module.kernel(module.span)).mT
        for stage, part in zip(stages, parts, strict=True)
    ]

    def make(**settings: Any) -> Any:
        return convolve(
            Repeated(width, copies, width),
            kernel(config, copies, parts[0].shape[-1], width),
            kernel(config, copies, parts[1].shape[-1], width) if len(parts) == 2 else None,
            d_model=width,
            skip="inputs" if config["skip"] else "none",
            reverse="own" if len(parts) == 2 else "none",
            reverse_exclusive=not config["backward_includes_current"],
            activation=ACTIVATIONS[config["activation"]],
            output="full_glu" if config["postact"] == "glu" else "linear",
            bias=True,
            **settings,
        )

    x = batched(case, leaves["u"])
    for name in algorithms(make()):
        outputs, _ = call(make(algorithm=name), tensors, x)
        yield from finish(case, name, leaves, {"kernel": torch.cat(kernels), "y": unbatched(case, outputs)})
