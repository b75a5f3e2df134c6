"""SGConv: kernel, convolution with D skip, and layer, in one or both directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.input import Repeated
from lcsm.stages.long_convolution.multiscale import MultiscaleKernel
from lcsm.stages.source import Plain
from tests.golden.case import Case
from tests.golden.convolutions import ACTIVATIONS, check, convolve, evaluate, output
from tests.golden.replay import algorithms, batched, call, finish, leaves_of, unbatched

NORMS = {"l2_full_length_frozen": "initial", "none": "none"}


def kernel(config: dict[str, Any], leaves: dict[str, Tensor], direction: int) -> MultiscaleKernel:
    """The kernel of one direction with the case's norm; every copy of the channels is a head."""
    copies = config["channels"]
    mode = "power_learned" if config["power_decay_trained"] else "power"
    found = MultiscaleKernel(
        copies,
        config["length"],
        config["H"],
        length=config["l_max"],
        taps=config["kernel_dim"],
        num_scales=config["num_scales"],
        first_scale=config["init_scale"],
        combine=config["combine"],
        interpolation=config["upsample"],
        init={"randn": "normal", "cos": "cosine"}[config["init"]],
        decay=mode if config["power_decay"] else "scale",
        decay_range=[config["decay_min"], config["decay_max"]],
        norm=NORMS[config["kernel_norm"]],
    ).double()
    assert found.span == config["full_kernel_length"]
    if found.policy == "initial":
        chosen = leaves["kernel_norm"].detach().unflatten(0, (-1, copies))[direction]
        found.norm.copy_(chosen.transpose(1, 2))
    if found.decay == "scale":
        assert torch.allclose(leaves["multiplier"].flatten(), found.alpha, rtol=1e-6)
    elif found.decay == "power":
        found.power.copy_(leaves["decay"].detach())
    return found


def kernel_parameters(config: dict[str, Any], leaves: dict[str, Tensor], direction: int) -> dict[str, Tensor]:
    """The parameters of one direction's kernel."""
    found = {"pieces": leaves["kernels"].unflatten(1, (-1, config["channels"]))[:, direction]}
    return {**found, "power": leaves["decay"]} if config["power_decay_trained"] else found


def make(config: dict[str, Any], leaves: dict[str, Tensor], **settings: Any) -> EosMixer:
    """The layer; without a width of its own it has that of the channels."""
    both, settings = config["bidirectional"], {"d_model": config["H"], **settings}
    return convolve(
        Repeated(config["H"], config["channels"], config["H"]),
        kernel(config, leaves, 0),
        kernel(config, leaves, 1) if both else None,
        source=Plain(config["H"]),
        skip="inputs" if config["skip"] else "none",
        reverse="own" if both else "none",
        reverse_exclusive=not config["backward_includes_current"],
        **settings,
    )


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    check(case, causal=not config["bidirectional"], glu_order="value_then_gate")
    parts = [kernel_parameters(config, leaves, direction) for direction in range(1 + config["bidirectional"])]
    kernels = [
        evaluate(kernel(config, leaves, direction), part, lambda module: module.kernel(config["length"])).mT
        for direction, part in enumerate(parts)
    ]
    tensors = {f"shrink.{name}": value for name, value in parts[0].items()}
    tensors |= {f"second_pass.shrink.{name}": value for name, value in parts[-1].items()}
    tensors |= {"skip.weight": leaves["D"].flatten(), **output(leaves, config["postact"])}
    found = {"kernel": torch.cat([kernels[0], *(backward.flip(-1) for backward in kernels[1:])], -1)}
    activation = ACTIVATIONS[config["activation"]]
    form = "full_glu" if config["postact"] == "glu" else "linear"
    x = batched(case, leaves["u"])
    for name in algorithms(make(config, leaves, output="linear")):
        layer = make(config, leaves, output=form, bias=True, activation=activation, algorithm=name)
        found["y"] = unbatched(case, call(layer, tensors, x)[0])
        plain = make(config, leaves, d_model=config["channels"] * config["H"], output="none", algorithm=name)
        found["y_conv"] = unbatched(case, call(plain, tensors, x)[0])
        yield from finish(case, name, leaves, found)
