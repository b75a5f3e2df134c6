"""A gated complex recurrence of every channel, whose complement is written."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.golden.case import Case
from tests.golden.given import layer
from tests.golden.hgru_real_layer import common, parameters
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["complex_layout"] == "interleaved_even_real_odd_imag" and config["norm_input"] == "concat_re_im"
    width = config["d_model"]

    # theirs are all real parts, then all imaginary parts; ours are both parts of every channel
    def paired(value: Tensor, axis: int = 0) -> Tensor:
        return value.unflatten(axis, (2, width)).transpose(axis, axis + 1).flatten(axis, axis + 1)

    tensors = {**parameters(leaves), "oscillation.angles": leaves["theta"].view(width, 1)}
    for kind in ("weight", "bias"):
        tensors[f"output.gate.{kind}"] = paired(leaves[f"gate.{kind}"])
        tensors[f"output.normaliser.{kind}"] = paired(leaves[f"norm.{kind}"]).view(width, 2)
    tensors["output.project.weight"] = paired(leaves["out_proj.weight"], 1)
    yield from layer(case, leaves, "hgrn_complex", common(config), tensors)
