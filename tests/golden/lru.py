"""LRU as a sequence map: one diagonal recurrence with many inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from tests.golden.case import Case
from tests.golden.given import SYSTEM, named, skip
from tests.golden.replay import (
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
    """What a case says of an LRU."""
    assert not config["bidirectional"] and not config["conj_sym"]
    return {
        "model.d_model": config["H"],
        "mixer.state_dim": config["N"],
        **skip(config),
        "oscillation.smallest_modulus": config["r_min"],
        "oscillation.largest_modulus": config["r_max"],
        "oscillation.largest_phase": config["max_phase"],
    }


def build(config: dict[str, Any], algorithm: str = "auto") -> EosMixer:
    """A mixer of one LRU, without output projection."""
    return named("lru", {**settings_of(config), **SYSTEM}, algorithm)


def parameters(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mixer's parameters from the case's."""
    return {
        "oscillation.nu": leaves["nu_log"][None],
        "oscillation.theta": leaves["theta_log"][None],
        "oscillation.gamma": leaves["gamma_log"][None],
        "expand.weight": reals(leaves["B"])[None],
        "shrink.weight": reals(leaves["C"])[None],
        "skip.weight": leaves.get("D"),
    }


def system(case: Case, make: Any, tensors: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """The eigenvalues, and the memory after the last input."""
    structure, _ = structure_of(make(), tensors, x)
    _, final = final_memory(make(), tensors, x)
    return {"Lambda": structure.factor(0, 1)[0, 0, 0, :, 0], "state_final": final[0, 0]}


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    for name in algorithms(build(config)):
        tensors, x = parameters(leaves), batched(case, leaves["u"])
        make = partial(build, config, algorithm=name)
        outputs, _ = call(make(), tensors, x)
        found = {**system(case, make, tensors, x), "y": unbatched(case, outputs)}
        yield from finish(case, name, leaves, found)
