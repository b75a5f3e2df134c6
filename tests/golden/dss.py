"""DSS as a sequence map: kernel and outputs of modes that all channels share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.base import Oscillation
from lcsm.stages.input import PerChannel
from lcsm.stages.state_space.complex_vector import LearnedComplexShrink
from lcsm.stages.state_space.dss import Dss, DssSoftmax
from lcsm.stages.vectors.expand import HandCraftedExpand
from tests.golden.case import Case
from tests.golden.replay import (
    algorithms,
    batched,
    call,
    finish,
    kernels,
    leaves_of,
    make_mixer,
    reals,
    unbatched,
)

STEPS = [1e-3, 1e-1]


def oscillation(config: dict[str, Any], real: str) -> Oscillation:
    """The oscillation of the case's version."""
    sizes, separate = (config["H"], config["N"]), config["sep_dt_re_im"]
    if config["discretization"] == "softmax":
        return DssSoftmax(*sizes, real, "identity", separate, STEPS, config["L"], config["reciprocal_eps"])
    return Dss(*sizes, real, "identity", separate, STEPS, config["discretization"] == "zoh")


def build(config: dict[str, Any], real: str, **settings: Any) -> EosMixer:
    """A mixer of modes that all channels share, without output projection."""
    assert config["readout"] == "re" and not config["bidirectional"] and config["channels"] == 1
    settings = {"skip": "inputs" if config["skip"] else "none", "reverse": "none", **settings}
    return make_mixer(
        config["H"],
        config["H"],
        config["N"],
        PerChannel(config["H"], config["H"], 1),
        HandCraftedExpand(config["H"], config["N"], "ones", "identity"),
        oscillation(config, real),
        LearnedComplexShrink(config["H"], config["N"], "ones"),
        **settings,
    )


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm; softmax also as the recurrence that serves modes which do not grow."""
    config, leaves = case.config, leaves_of(case)
    rates, log_step = leaves["Lambda"], leaves["log_dt"]
    starts = {"exp": lambda: (-rates.real).log(), "free": lambda: rates.real}
    stable = bool((rates.real < 0).all())
    assert stable or config["discretization"] == "softmax"
    for real in ("exp",) * stable + ("free",) * (config["discretization"] == "softmax"):
        for name in algorithms(build(config, real)):
            tensors = {
                "oscillation.real": starts[real](),
                "oscillation.imaginary": rates.imag,
                "oscillation.log_step": log_step.view(config["H"], -1),
                "shrink.direction": reals(leaves["W"]),
                "skip.weight": leaves.get("D"),
            }
            make = partial(build, config, real, algorithm=name)
            outputs, _ = call(make(), tensors, batched(case, leaves["u"]))
            kernel = kernels(make, tensors, leaves["W"][None], config["L"])[0]
            yield from finish(case, f"{real} {name}", leaves, {"K": kernel, "y": unbatched(case, outputs)})
