"""Stages that hand on given tensors, and mixers of named models, so that cases run through the project's mixer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lcsm.mixers.compatibility import Stages
from lcsm.mixers.eos import EosMixer, State
from lcsm.models.block import Block
from lcsm.models.build import Builder
from lcsm.ops.dispatch import fitting
from lcsm.stages.base import READERS, Expand, Input, Normaliser, Oscillation, Shrink, Source, Stage
from lcsm.stages.normaliser import Identity
from lcsm.stages.source import Plain
from lcsm.structures import Structure
from tests.compose import compose
from tests.golden.case import Case
from tests.golden.replay import ACTIVATIONS, assemble, call, finish


class GivenSource(Source):
    """Hands every reader its own tensor [B L W]; the others see the mixer's input."""

    def __init__(self, width: int, **readers: Tensor) -> None:
        super().__init__()
        self.readers = readers
        self.widths = {name: readers[name].shape[-1] if name in readers else width for name in READERS}

    def forward(self, x: Tensor, past: Any = None, context: Any = None) -> tuple[dict[str, Tensor], Any]:
        return {name: self.readers.get(name, x) for name in READERS}, past


class GivenInput(Input):
    """Given inputs, [B L H P]."""

    varies = "LHP"

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor, past: Any = None, context: Any = None) -> tuple[Tensor, Any]:
        return self.value, past


class GivenVector(Stage):
    """A given direction, [B L H N P]."""

    def __init__(self, value: Tensor, varies: str = "LHN") -> None:
        super().__init__()
        self.value, self.varies = value, varies

    def vector(self, x: Tensor, past: Any = None, context: Any = None) -> tuple[Tensor, Any]:
        return self.value, past


class GivenExpand(GivenVector, Expand):
    """A given expand."""


class GivenShrink(GivenVector, Shrink):
    """A given shrink."""


class GivenOscillation(Oscillation):
    """A given structure, with its declarations."""

    def __init__(self, structure: Structure, decay: str, **declared: Any) -> None:
        super().__init__()
        self.structure, self.decay = structure, decay
        for name, value in declared.items():
            setattr(self, name, value)

    def forward(self, x: Tensor, expand: Tensor, past: Any = None, context: Any = None) -> tuple[Structure, Any]:
        return self.structure, past


class GivenModule(nn.Module):
    """A module whose value is given."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, *arguments: Any) -> Tensor:
        return self.value


def build(
    sizes: tuple[int, int, int],
    input: Input | Tensor,
    expand: Expand | Tensor,
    oscillation: Oscillation,
    shrink: Shrink | Tensor,
    normaliser: Normaliser | None = None,
    source: Source | None = None,
    **settings: Any,
) -> EosMixer:
    """A mixer in double precision; tensors [B L H P] and [B L H N] in place of stages are given values.

    Args:
        sizes: H, N and P; the layer is H P wide.
    """
    width = sizes[0] * sizes[2]
    stages = Stages(
        Plain(width) if source is None else source,
        GivenInput(input) if isinstance(input, Tensor) else input,
        GivenExpand(expand[..., None]) if isinstance(expand, Tensor) else expand,
        oscillation,
        GivenShrink(shrink[..., None]) if isinstance(shrink, Tensor) else shrink,
        Identity() if normaliser is None else normaliser,
    )
    return assemble(stages, width, sizes, **settings)


# a state space system alone, without what follows it in a layer
SYSTEM = {"mixer.output.activation": "identity", "mixer.output.form": "none"}


def configured(model: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a named model.

    Args:
        settings: overrides by their paths, only of what the case names; all else comes from the YAML files.
    """
    words = (f"{path}={'null' if value is None else value}" for path, value in settings.items())
    return compose(f"model={model}", *words)


def named(model: str, settings: dict[str, Any], algorithm: str = "auto", layer: int = 0) -> EosMixer:
    """The mixer of layer `layer` of a named model, in double precision."""
    config = configured(model, {**settings, "mixer.algorithm": algorithm})
    mixer = Builder(config).mixer(config, layer, "layer").double()
    assert isinstance(mixer, EosMixer)
    return mixer


def named_block(model: str, settings: dict[str, Any], algorithm: str = "auto", layer: int = 0) -> Block:
    """Layer `layer` of a named model with its norms and its channel mixer, in double precision."""
    return Builder(configured(model, {**settings, "mixer.algorithm": algorithm})).block(layer).double()


def activation(name: str) -> str:
    """Our name of an activation."""
    return ACTIVATIONS.get(name, name)


def setting(value: Any) -> Any:
    """A number of a case, where "none" stands for an absent one."""
    return None if value == "none" else value


def skip(config: dict[str, Any]) -> dict[str, str]:
    """The settings of a system's skip: the model's own, or none."""
    return {} if config["skip"] else {"mixer.skip.of": "none", "mixer.skip.init": "ones"}


def identity(size: int) -> Tensor:
    """The weight of a projection that hands on what it sees."""
    return torch.eye(size, dtype=torch.float64)


def selection(*sizes: int) -> list[Tensor]:
    """Weights that cut a concatenation into its parts."""
    return list(identity(sum(sizes)).split(sizes))


def replayed(
    case: Case,
    leaves: dict[str, Tensor],
    make: Callable[..., EosMixer],
    tensors: dict[str, Tensor],
    found: Callable[[Tensor, State], dict[str, Tensor]],
    x: Tensor | None = None,
    state: State | None = None,
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm that serves it.

    Args:
        make: builds the mixer, make(algorithm=...).
        tensors: the mixer's parameters.
        found: the case's outputs, from the mixer's outputs [B L D] and its state.
        x: what the mixer sees, [B L D]; zeros where every stage is given.
        state: what the stream begins with.
    """
    for name in fitting(make().recurrence.spec):
        mixer = make(algorithm=name)
        if x is None:
            config = case.config
            width = mixer.recurrence.spec.num_heads * mixer.recurrence.spec.value_dim
            x = torch.zeros(config["B"], config["L"], width, dtype=torch.float64)
        outputs, after = call(mixer, tensors, x, State() if state is None else state)
        yield from finish(case, name, leaves, found(outputs, after))


def heads(outputs: Tensor, num_heads: int) -> Tensor:
    """Merged outputs [B L H P merged] as [B L H P]."""
    return outputs.unflatten(-1, (num_heads, -1))


def layer(
    case: Case,
    leaves: dict[str, Tensor],
    model: str,
    settings: dict[str, Any],
    tensors: dict[str, Tensor],
    index: int = 0,
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """A named model's layer from x to y, in the layout of the case.

    Args:
        settings: as in `configured`.
        tensors: the mixer's parameters.
        index: number of the layer.
    """
    make = partial(named, model, settings, layer=index)
    first = case.config["layout"] == "LBD"
    x = leaves["x"].transpose(0, 1) if first else leaves["x"]
    yield from replayed(case, leaves, make, tensors, lambda y, state: {"y": y.transpose(0, 1) if first else y}, x)


def taps(weight: Tensor) -> Tensor:
    """A depthwise convolution's weight [D 1 K], newest tap last, as ours [K D], newest tap first."""
    return weight[:, 0].flip(-1).T
