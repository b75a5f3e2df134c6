"""An LDNN layer: diagonal systems per head, a map over the heads, half a gate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.input import OnesInput
from lcsm.stages.state_space.ldnn import Ldnn
from lcsm.stages.state_space.mode_projection import ModeInput, ModeOutput
from tests.golden.case import Case
from tests.golden.replay import (
    ACTIVATIONS,
    DISCRETISATIONS,
    algorithms,
    batched,
    call,
    finish,
    leaves_of,
    make_mixer,
    part,
    structure_of,
    unbatched,
)

SKIPS = {"diagonal": "source", "dense": "dense", "none": "none"}


def build(config: dict[str, Any], output: str, **settings: Any) -> EosMixer:
    """A mixer of one LDNN system per head."""
    assert config["real_B_C"] and config["channels"] == 1 and config["activation"] == "none"
    assert config["H"] == config["M"] and (config["backward_shares_kernel"] or not config["bidirectional"])
    heads, modes, pairs = config["heads"], config["states_per_head"], config["conj_sym"]
    oscillation = Ldnn(
        heads, modes, "released", pairs, config["stability_map"].lower(), config["stability_map_imag"].lower(),
        config["dt_per_state"], DISCRETISATIONS[config["discretization"]], [1e-3, 1e-1], 1.0, False,
    )  # fmt: skip
    return make_mixer(
        config["H"],
        heads,
        modes,
        OnesInput(1),
        ModeInput(config["H"], heads, modes, False, "truncated", "none", 1, pairs),
        oscillation,
        ModeOutput(config["M"], heads, modes, False, "truncated", "none", 1, pairs),
        skip=SKIPS[config["skip"]],
        reverse="tied" if config["bidirectional"] else "none",
        reverse_exclusive=not config["backward_includes_current"],
        activation="identity" if output in ("none", "mixed") else ACTIVATIONS[config["gelu"]],
        output=output,
        **settings,
    )


def parameters(config: dict[str, Any], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mixer's parameters from the case's."""
    tensors = {
        "oscillation.real": leaves["Lambda_param"].real,
        "oscillation.imaginary": leaves["Lambda_param"].imag,
        "oscillation.log_step": leaves["log_dt"],
        "expand.weight": leaves["B"],
        "shrink.weight": leaves["C"],
    }
    if config["skip"] != "none":
        tensors["skip.weight"] = leaves["D"].flatten() if config["skip"] == "diagonal" else leaves["D"]
    names = {"mixer": "output.mix", "out1": "output.project", "out2": "output.select"}
    for theirs, ours in names.items():
        for kind in ("weight", "bias"):
            if f"{theirs}.{kind}" in leaves:
                tensors[f"{ours}.{kind}"] = leaves[f"{theirs}.{kind}"]
    return tensors


def system(config: dict[str, Any], output: str, tensors: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """The eigenvalues after the stability maps, and the discrete system."""
    mixer = build(config, output)
    structure, _ = structure_of(mixer, tensors, x)
    stored = part(tensors, "oscillation")
    real, imaginary = mixer.oscillation.real_map.value(stored["real"]), mixer.oscillation.turn(stored["imaginary"])
    factor, gain = structure.factor(0, 1), structure.gain
    return {"Lambda": torch.complex(real, imaginary), "dA": factor[0, 0, ..., 0], "b_coef": gain[0, 0, ..., 0]}


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    forms = [name for name, present in (("mixed", config["head_mixer"]), (config["postact"], True)) if present]
    output = "_".join(name for name in forms if name != "none") or "none"
    for name in algorithms(build(config, output)):
        tensors, x = parameters(config, leaves), batched(case, leaves["u"])
        found = system(config, output, tensors, x)
        outputs, _ = call(build(config, output, algorithm=name), tensors, x)
        heads, _ = call(build(config, "none", algorithm=name), tensors, x)
        yield from finish(case, name, leaves, {**found, "y_pre_mixer": heads, "y": unbatched(case, outputs)})
