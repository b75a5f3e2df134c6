"""Mixers of the project around a long convolution, and their kernels, for the golden cases of that kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lcsm.mixers.compatibility import Stages
from lcsm.mixers.eos import EosMixer
from lcsm.stages.base import Input, Normaliser, Source
from lcsm.stages.long_convolution.base import KernelShrink
from lcsm.stages.long_convolution.shift import ShiftRegister
from lcsm.stages.normaliser import Identity
from lcsm.stages.source import Plain
from lcsm.stages.vectors.expand import Newest
from tests.golden.case import Case
from tests.golden.replay import assemble, call

ACTIVATIONS = {
    "none": "identity",
    "gelu_erf": "gelu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_tanh",
    "silu": "silu",
    "relu": "relu",
    "elu": "elu",
    "sigmoid": "sigmoid",
    "exp": "exp",
    "1+elu": "one_plus_elu",
    "tanh": "tanh",
}


class Bound(nn.Module):
    """A function of a module, as a module whose parameters can be given."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *arguments: Any) -> Any:
        return self.function(self.module, *arguments)


def evaluate(module: nn.Module, tensors: dict[str, Tensor], function: Callable[..., Any], *arguments: Any) -> Any:
    """function(module, *arguments) with `tensors` for the module's parameters."""
    return call(Bound(module, function), {f"module.{name}": value for name, value in tensors.items()}, *arguments)


def convolve(
    input: Input,
    shrink: KernelShrink,
    reverse_shrink: KernelShrink | None = None,
    normaliser: Normaliser | None = None,
    source: Source | None = None,
    d_model: int | None = None,
    **settings: Any,
) -> EosMixer:
    """A mixer in double precision whose sizes are those of the kernel."""
    heads, lags, columns = shrink.sizes
    width = heads * columns if d_model is None else d_model
    stages = Stages(
        Plain(width) if source is None else source,
        input,
        Newest(lags),
        ShiftRegister(),
        shrink,
        Identity() if normaliser is None else normaliser,
    )
    return assemble(stages, width, shrink.sizes, reverse_shrink, **settings).eval()


def check(case: Case, **expected: Any) -> None:
    """Refuse a case whose settings ask for something that its adapter does not do."""
    settings = {"initial_state": "zero", "final_state": False, "weight_layout": "out_in", "dropout": 0.0, **expected}
    for name, value in settings.items():
        found = case.config.get(name, value)
        assert found == value, f"{name}={found!r} is not replayed, only {value!r}"


def output(leaves: dict[str, Tensor], postact: str) -> dict[str, Tensor]:
    """The output projection of a layer; under a GLU the value comes before the gate."""
    weight, bias = leaves["out.weight"], leaves["out.bias"]
    if postact == "none":
        return {"output.project.weight": weight, "output.project.bias": bias}
    assert postact == "glu"
    names = ("project", "select")
    parts = zip(names, weight.chunk(2), bias.chunk(2), strict=True)
    return {
        f"output.{name}.{kind}": value
        for name, w, b in parts
        for kind, value in (("weight", w), ("bias", b))
    }  # fmt: skip
