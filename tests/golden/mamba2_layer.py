"""A Mamba-2 layer: short convolutions of x, B and C, a step size per head, D skip, gate before the norm."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.expand import DataDriven as Expand
from lcsm.stages.input import Projection
from lcsm.stages.normaliser import RmsNorm
from lcsm.stages.oscillation.head_step import HeadStep
from lcsm.stages.shrink import DataDriven as Shrink
from tests.golden.case import Case
from tests.golden.given import build, layer, taps
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["in_proj_order"] == "z,xBC,dt" and config["conv_order"] == "x,B,C" and config["skip"]
    assert config["dt_limit"] == "none" and config["norm"] == "rmsnorm_per_group" and not config["bias"]
    width, num_heads, columns = config["d_model"], config["heads"], config["head_dim"]
    rows, groups, inner = config["d_state"], config["groups"], config["d_inner"]

    def make(**settings: str) -> EosMixer:
        activation, kernel_size = config["conv_activation"], config["conv_kernel"]
        common = (width, num_heads, rows, activation, False, kernel_size, groups, False)
        return build(
            (num_heads, rows, columns),
            Projection(width, num_heads, columns, activation, False, kernel_size),
            Expand(*common),
            HeadStep(width, num_heads, [1.0, 16.0], [1e-3, 1e-1], None),
            Shrink(*common),
            RmsNorm(num_heads, columns, config["norm_groups"], "heads", config["norm_eps"]),
            d_model=width,
            skip="heads",
            gate=config["gate_activation"],
            gate_first=not config["norm_before_gate"],
            output="linear",
            **settings,
        )

    sizes = [inner, groups * rows, groups * rows]
    gate, *parts, step = leaves["in_proj.weight"].split([inner, *sizes, num_heads])
    kernels, biases = leaves["conv1d.weight"].split(sizes), leaves["conv1d.bias"].split(sizes)
    tensors = {}
    for stage, part, kernel, bias in zip(("input", "expand", "shrink"), parts, kernels, biases, strict=True):
        tensors[f"{stage}.projection.weight"] = part
        tensors |= {f"{stage}.convolution.weight": taps(kernel), f"{stage}.convolution.bias": bias}
    tensors |= {
        "oscillation.projection.weight": step,
        "oscillation.bias": leaves["dt_bias"],
        "oscillation.log_rate": leaves["A_log"],
        "skip": leaves["D"],
        "output.gate.weight": gate,
        "normaliser.weight": leaves["norm.weight"].view(num_heads, columns),
        "output.project.weight": leaves["out_proj.weight"],
    }
    yield from layer(case, leaves, make, tensors)
