"""S5 as a sequence map: one diagonal system with many inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from tests.golden.case import Case
from tests.golden.given import SYSTEM, named, skip
from tests.golden.replay import (
    DISCRETISATIONS,
    SETTINGS,
    algorithms,
    batched,
    call,
    final_memory,
    finish,
    leaves_of,
    reals,
    structure_of,
    unbatched,
)


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """What a case says of an S5 system."""
    return {
        "model.d_model": config["H"],
        "mixer.state_dim": config["P"],
        **skip(config),
        "mixer.reverse.shrink": "own" if config["bidirectional"] else "none",
        "mixer.reverse.exclusive": not config["backward_includes_current"],
        "oscillation.blocks": config["blocks"],
        "oscillation.pairs": config["conj_sym"],
        "oscillation.real": "clip" if config["clip_eigs"] else "exp",
        "oscillation.discretisation": DISCRETISATIONS[config["discretization"]],
        "oscillation.rate": config["step_rescale"],
    }


def build(config: dict[str, Any], algorithm: str = "auto", **settings: str) -> EosMixer:
    """A mixer of one S5 system, without output projection; `settings` are those of the mixer."""
    overrides = {".".join(("mixer", *SETTINGS[name][:2])): value for name, value in settings.items()}
    return named("s5", {**settings_of(config), **SYSTEM, **overrides}, algorithm)


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
        "second_pass.shrink.weight": reals(backward)[None],
        "skip.weight": leaves.get("D"),
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
