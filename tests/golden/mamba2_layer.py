"""A Mamba-2 layer: short convolutions of x, B and C, a step size per head, D skip, gate before the norm."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.golden.case import Case
from tests.golden.given import activation, layer, taps
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["in_proj_order"] == "z,xBC,dt" and config["conv_order"] == "x,B,C" and config["skip"]
    assert config["dt_limit"] == "none" and config["norm"] == "rmsnorm_per_group" and not config["bias"]
    num_heads, columns = config["heads"], config["head_dim"]
    rows, groups, inner = config["d_state"], config["groups"], config["d_inner"]
    settings = {
        "model.d_model": config["d_model"],
        "mixer.num_heads": num_heads,
        "mixer.state_dim": rows,
        "mixer.value_dim": columns,
        "mixer.output.gate": config["gate_activation"],
        "mixer.output.norm": "before" if config["norm_before_gate"] else "after",
        "expand.num_groups": groups,
        "shrink.num_groups": groups,
        "normaliser.groups": config["norm_groups"],
        "normaliser.epsilon": config["norm_eps"],
    }
    for stage in ("input", "expand", "shrink"):
        settings[f"{stage}.kernel_size"] = config["conv_kernel"]
        settings[f"{stage}.activation"] = activation(config["conv_activation"])
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
        "skip.weight": leaves["D"],
        "output.gate.weight": gate,
        "output.normaliser.weight": leaves["norm.weight"].view(num_heads, columns),
        "output.project.weight": leaves["out_proj.weight"],
    }
    yield from layer(case, leaves, "mamba2", settings, tensors)
