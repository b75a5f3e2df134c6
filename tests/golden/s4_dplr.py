"""S4: kernel, outputs, state and truncated read-out of one diagonal plus low-rank system per channel."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.input import PerChannel
from lcsm.stages.state_space.complex_vector import LearnedComplexExpand, LearnedComplexShrink
from lcsm.stages.state_space.s4 import S4, truncated_read
from tests.golden.case import Case
from tests.golden.replay import (
    algorithms,
    batched,
    call,
    final_memory,
    finish,
    kernels,
    leaves_of,
    make_mixer,
    reals,
    structure_of,
    unbatched,
)


def build(config: dict[str, Any], **settings: Any) -> EosMixer:
    """A mixer of one S4 system per channel, without output projection."""
    assert config["rank"] == 1 and config["discretization"] == "bilinear" and config["activation"] == "none"
    channels, modes = config["H"], config["N_stored"]
    reverse = "own" if config["bidirectional"] else "none"
    settings = {"skip": "inputs" if config["skip"] else "none", "reverse": reverse, **settings}
    return make_mixer(
        channels,
        channels,
        modes,
        PerChannel(channels, channels, 1),
        LearnedComplexExpand(channels, modes, "ones"),
        S4(channels, modes, "legs", "exp", False, [1e-3, 1e-1], 1.0),
        LearnedComplexShrink(channels, modes, "ones"),
        LearnedComplexShrink(channels, modes, "ones") if settings["reverse"] == "own" else None,
        reverse_exclusive=not config["backward_includes_current"],
        **settings,
    )


def parameters(leaves: dict[str, Tensor], read: Tensor) -> dict[str, Tensor]:
    """The mixer's parameters from the case's."""
    return {
        "oscillation.real": (-leaves["A"].real).log(),
        "oscillation.imaginary": leaves["A"].imag,
        "oscillation.low_rank": reals(leaves["P"]),
        "oscillation.log_step": leaves["dt"].log()[:, None],
        "expand.direction": reals(leaves["B"]),
        "shrink.direction": reals(read[0]),
        "second_pass.shrink.direction": reals(read[-1]),
        "skip.weight": leaves.get("D"),
    }


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    for name in algorithms(build(config)):
        read = leaves["C"] if leaves["C"].ndim == 3 else leaves["C"][None]
        tensors, x = parameters(leaves, read), batched(case, leaves["u"])
        make = partial(build, config, algorithm=name)
        structure, _ = structure_of(make(), tensors, x)
        truncated = [truncated_read(structure, row[None, None, ..., None], config["l_max"]) for row in read]
        kernel = kernels(make, tensors, read, config["L"])
        outputs, final = final_memory(make(reverse="none"), tensors, x)
        if config["bidirectional"]:
            outputs, _ = call(make(), tensors, x)
        found = {
            "C_tilde": torch.cat(truncated)[:, 0, ..., 0].view_as(leaves["C"]),
            "K": kernel.view(*leaves["C"].shape[:-1], -1),
            "y": unbatched(case, outputs),
            "state_final": final,
        }
        yield from finish(case, name, leaves, found)
