"""S4D as a sequence map: kernel, outputs and states of one diagonal system per channel."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.input import PerChannel
from lcsm.stages.state_space.complex_vector import LearnedComplexExpand, LearnedComplexShrink
from lcsm.stages.state_space.s4d import S4D
from tests.golden.case import Case
from tests.golden.replay import (
    DISCRETISATIONS,
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
    """A mixer of one S4D system per channel, without output projection."""
    channels, modes = config["H"], config["N_stored"]
    oscillation = S4D(
        channels, modes, "lin", "complex", "exp", False, DISCRETISATIONS[config["discretization"]], [1e-3, 1e-1],
        1.0, False,
    )  # fmt: skip
    reverse = "own" if config["bidirectional"] else "none"
    settings = {"skip": "inputs" if config["skip"] else "none", "reverse": reverse, **settings}
    return make_mixer(
        channels,
        channels,
        modes,
        PerChannel(channels, channels, 1),
        LearnedComplexExpand(channels, modes, "ones"),
        oscillation,
        LearnedComplexShrink(channels, modes, "ones"),
        LearnedComplexShrink(channels, modes, "ones") if settings["reverse"] == "own" else None,
        reverse_exclusive=not config["backward_includes_current"],
        **settings,
    )


def parameters(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mixer's parameters from the case's; `dt` is the step size, rate included."""
    read = leaves["C"] if leaves["C"].ndim == 3 else leaves["C"][None]
    found = {
        "oscillation.real": (-leaves["A"].real).log(),
        "oscillation.imaginary": leaves["A"].imag,
        "oscillation.log_step": leaves["dt"].log()[:, None],
        "expand.direction": reals(leaves["B"]),
        "shrink.direction": reals(read[0]),
        "second_pass.shrink.direction": reals(read[-1]),
        "skip.weight": leaves.get("D"),
    }
    return found


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    for name in algorithms(build(config)):
        tensors = parameters(leaves)
        read = leaves["C"] if leaves["C"].ndim == 3 else leaves["C"][None]
        make = partial(build, config, algorithm=name)
        kernel = kernels(make, tensors, read, config["L"])
        found = {"K": kernel if leaves["C"].ndim == 3 else kernel[0]}
        if not config["kernel_only"]:
            found |= outputs(case, make, tensors, leaves)
        yield from finish(case, name, leaves, found)


def outputs(case: Case, make: Any, tensors: dict[str, Tensor], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outputs, states and the discrete system."""
    x, memory = batched(case, leaves["u"]), leaves.get("state_init")
    structure, expand = structure_of(make(), tensors, x)
    gain = 1 if structure.gain is None else structure.gain
    found = {"dA": structure.factor(0, 1)[0, 0, ..., 0], "dB": (gain * expand)[0, 0, ..., 0]}
    result, final = final_memory(make(reverse="none"), tensors, x, memory)
    if case.config["bidirectional"]:
        result, _ = call(make(), tensors, x)
    return {**found, "y": unbatched(case, result), "state_final": final}
