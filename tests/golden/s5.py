"""S5 as a sequence map: one diagonal system with many inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.input import Ones
from lcsm.stages.mode_projection import ModeInput, ModeOutput
from lcsm.stages.oscillation.s5 import S5
from tests.golden.case import Case
from tests.golden.replay import (
    DISCRETISATIONS,
    algorithms,
    batched,
    call,
    final_memory,
    finish,
    leaves_of,
    make_mixer,
    reals,
    structure_of,
    unbatched,
)


def build(config: dict[str, Any], **settings: Any) -> EosMixer:
    """A mixer of one S5 system, without output projection unless asked for."""
    channels, modes, pairs = config["H"], config["P"], config["conj_sym"]
    rule = DISCRETISATIONS[config["discretization"]]
    real = "clip" if config["clip_eigs"] else "exp"
    oscillation = S5(1, modes, 1, pairs, real, rule, [1e-3, 1e-1], config["step_rescale"], False)
    reverse = "own" if config["bidirectional"] else "none"
    settings = {"skip": "source" if config["skip"] else "none", "reverse": reverse, **settings}
    shrinks = [ModeOutput(channels, 1, modes, True, "complex_normal", "none", 1, pairs) for _ in range(2)]
    return make_mixer(
        channels,
        1,
        modes,
        Ones(1),
        ModeInput(channels, 1, modes, True, "normal", "none", 1, pairs),
        oscillation,
        shrinks[0],
        shrinks[1] if settings["reverse"] == "own" else None,
        reverse_exclusive=not config["backward_includes_current"],
        **settings,
    )


def parameters(config: dict[str, Any], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mixer's parameters from the case's."""
    forward, backward = leaves["C"][:, : config["P"]], leaves["C"][:, -config["P"] :]
    real = leaves["Lambda"].real[None]
    return {
        "oscillation.real": real if config["clip_eigs"] else (-real).log(),
        "oscillation.imaginary": leaves["Lambda"].imag[None],
        "oscillation.log_step": leaves["log_step"].view(1, -1),
        "expand.weight": reals(leaves["B"])[None],
        "shrink.weight": reals(forward)[None],
        "reverse_shrink.weight": reals(backward)[None],
        "skip": leaves["D"],
    }


def system(case: Case, make: Any, tensors: dict[str, Tensor], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The discrete system, and the memory after the last input."""
    x = batched(case, leaves["u"])
    structure, _ = structure_of(make(), tensors, x)
    gain = 1 if structure.gain is None else structure.gain[0, 0, 0]
    _, final = final_memory(make(reverse="none"), tensors, x)
    return {
        "Lambda_bar": structure.factor(0, 1)[0, 0, 0, :, 0],
        "B_bar": gain * leaves["B"],
        "state_final": final[0, 0],
    }


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    for name in algorithms(build(config)):
        tensors = parameters(config, leaves)
        make = partial(build, config, algorithm=name)
        outputs, _ = call(make(), tensors, batched(case, leaves["u"]))
        found = {**system(case, make, tensors, leaves), "y": unbatched(case, outputs)}
        yield from finish(case, name, leaves, found)
