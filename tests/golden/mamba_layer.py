"""A Mamba layer: projection, short convolution, selective scan, D skip, gate."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.expand import DataDriven as Expand
from lcsm.stages.input import PerChannel
from lcsm.stages.oscillation.ssm import DataDrivenStep
from lcsm.stages.shrink import DataDriven as Shrink
from lcsm.stages.source import Projected
from tests.golden.case import Case
from tests.golden.given import build, layer, taps
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["in_proj_order"] == "u,z" and config["x_proj_order"] == "dt,B,C" and config["skip"]
    assert config["dt_activation"] == "softplus" and config["A_rule"] == "-exp(A_log)" and not config["bias"]
    width, channels, rows, rank = config["d_model"], config["d_inner"], config["d_state"], config["dt_rank"]

    def make(**settings: str) -> EosMixer:
        common = (channels, 1, rows, "identity", False, None, None, False)
        return build(
            (1, rows, channels),
            PerChannel(channels, 1, channels),
            Expand(*common),
            DataDrivenStep(channels, width, 1, rows, channels, rank, [1e-3, 1e-1]),
            Shrink(*common),
            source=Projected(width, channels, False, config["conv_kernel"], config["conv_activation"]),
            d_model=width,
            skip="inputs",
            gate=config["gate_activation"],
            output="linear",
            **settings,
        )

    inner, gate = leaves["in_proj.weight"].split(channels)
    step, write, read = leaves["x_proj.weight"].split([rank, rows, rows])
    tensors = {
        "source.projection.weight": inner,
        "source.convolution.weight": taps(leaves["conv1d.weight"]),
        "source.convolution.bias": leaves["conv1d.bias"],
        "oscillation.reduce.weight": step,
        "oscillation.expand_step.weight": leaves["dt_proj.weight"],
        "oscillation.bias": leaves["dt_proj.bias"],
        "oscillation.log_rate": leaves["A_log"].T[None],
        "expand.projection.weight": write,
        "shrink.projection.weight": read,
        "skip": leaves["D"],
        "output.gate.weight": gate,
        "output.project.weight": leaves["out_proj.weight"],
    }
    yield from layer(case, leaves, make, tensors)
