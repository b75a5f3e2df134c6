"""A gated complex recurrence of every channel, whose complement is written."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.channels import ComplexProjection
from lcsm.stages.shrink import MemoryParts
from tests.golden.case import Case
from tests.golden.given import layer
from tests.golden.hgru_real_layer import parameters, recurrence
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["complex_layout"] == "interleaved_even_real_odd_imag" and config["norm_input"] == "concat_re_im"
    width = config["d_model"]

    def make(**settings: str) -> EosMixer:
        projection = ComplexProjection(width, width, 1, config["input_activation"], True)
        return recurrence(config, projection, MemoryParts(1), "learned", **settings)

    # theirs are all real parts, then all imaginary parts; ours are both parts of every channel
    def paired(value: Tensor, axis: int = 0) -> Tensor:
        return value.unflatten(axis, (2, width)).transpose(axis, axis + 1).flatten(axis, axis + 1)

    tensors = {**parameters(leaves), "oscillation.angles": leaves["theta"].view(width, 1)}
    for kind in ("weight", "bias"):
        tensors[f"output.gate.{kind}"] = paired(leaves[f"gate.{kind}"])
        tensors[f"normaliser.{kind}"] = paired(leaves[f"norm.{kind}"]).view(width, 2)
    tensors["output.project.weight"] = paired(leaves["out_proj.weight"], 1)
    yield from layer(case, leaves, make, tensors)
