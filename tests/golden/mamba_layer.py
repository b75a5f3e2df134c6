"""A Mamba layer: projection, short convolution, selective scan, D skip, gate."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.golden.case import Case
from tests.golden.given import activation, layer, taps
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["in_proj_order"] == "u,z" and config["x_proj_order"] == "dt,B,C" and config["skip"]
    assert config["dt_activation"] == "softplus" and config["A_rule"] == "-exp(A_log)" and not config["bias"]
    channels, rows, rank = config["d_inner"], config["d_state"], config["dt_rank"]
    settings = {
        "model.d_model": config["d_model"],
        "mixer.state_dim": rows,
        "mixer.value_dim": channels,
        "mixer.output.gate": config["gate_activation"],
        "source.width": channels,
        "source.kernel_size": config["conv_kernel"],
        "source.activation": activation(config["conv_activation"]),
        "oscillation.rank": rank,
    }
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
        "skip.weight": leaves["D"],
        "output.gate.weight": gate,
        "output.project.weight": leaves["out_proj.weight"],
    }
    yield from layer(case, leaves, "mamba", settings, tensors)
