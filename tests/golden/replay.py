"""Runs the project's mixers with the tensors of a golden case in place of their parameters, differentiably."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lcsm.mixers.compatibility import Stages
from lcsm.mixers.eos import EosMixer, State
from lcsm.mixers.output import Output
from lcsm.mixers.second_pass import SecondPass
from lcsm.mixers.skip import Skip
from lcsm.ops.dispatch import fitting
from lcsm.stages.base import Expand, Input, Oscillation, Shrink
from lcsm.stages.normaliser import Identity
from lcsm.stages.source import Plain
from tests.golden.case import Case, with_gradients

DISCRETISATIONS = {"zoh": "zero_order_hold", "bilinear": "bilinear", "dirac": "dirac", "softmax": "softmax"}
ACTIVATIONS = {"none": "identity", "gelu_erf": "gelu", "gelu_tanh": "gelu_tanh"}


# what an adapter may set of a mixer by hand: its part, its name there, and what it is without
SETTINGS: dict[str, tuple[str, str, Any]] = {
    "skip": ("skip", "of", "none"),
    "skip_init": ("skip", "init", "ones"),
    "reverse": ("reverse", "shrink", "none"),
    "reverse_exclusive": ("reverse", "exclusive", True),
    "output": ("output", "form", "none"),
    "activation": ("output", "activation", "identity"),
    "gate": ("output", "gate", "none"),
    "gate_rank": ("output", "gate_rank", None),
    "norm": ("output", "norm", "before"),
    "bias": ("output", "bias", False),
}


def assemble(
    stages: Stages,
    d_model: int,
    sizes: tuple[int, int, int],
    reverse_shrink: Shrink | None = None,
    algorithm: str = "auto",
    **settings: Any,
) -> EosMixer:
    """A mixer in double precision from stages made by hand; a bare memory but for the settings.

    Args:
        sizes: H, N and P.
        reverse_shrink: what a second pass reads by.
    """
    assert settings.keys() <= SETTINGS.keys(), settings
    given: dict[str, dict[str, Any]] = {"skip": {}, "reverse": {"make_shrink": lambda: reverse_shrink}, "output": {}}
    for name, (part, key, value) in SETTINGS.items():
        given[part][key] = settings.get(name, value)
    parts = {"skip": Skip, "reverse": SecondPass, "output": Output}
    made = {part: partial(parts[part], **given[part]) for part in parts}
    return EosMixer(stages, d_model, *sizes, **made, algorithm=algorithm).double()


def make_mixer(
    d_model: int,
    num_heads: int,
    state_dim: int,
    input: Input,
    expand: Expand,
    oscillation: Oscillation,
    shrink: Shrink,
    reverse_shrink: Shrink | None = None,
    **settings: Any,
) -> EosMixer:
    """A mixer in double precision with P = 1 and a plain source."""
    stages = Stages(Plain(d_model), input, expand, oscillation, shrink, Identity())
    return assemble(stages, d_model, (num_heads, state_dim, 1), reverse_shrink, **settings)


def call(module: nn.Module, tensors: dict[str, Tensor], *arguments: Any) -> Any:
    """The module's value with `tensors` for its parameters; every parameter must be given."""
    names = [name for name, _ in module.named_parameters()]
    missing = set(names) - set(tensors)
    assert not missing, f"the case gives no value for {sorted(missing)}"
    return functional_call(module, {name: tensors[name] for name in names}, arguments, strict=False)


def part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of one stage, without its name."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def structure_of(mixer: EosMixer, tensors: dict[str, Tensor], x: Tensor) -> tuple[Any, Tensor]:
    """The oscillation's structure, and the expand before the gain."""
    expand, _ = call(mixer.expand, part(tensors, "expand"), x)
    structure, _ = call(mixer.oscillation, part(tensors, "oscillation"), x, expand)
    return structure, expand


def reals(value: Tensor) -> Tensor:
    """A complex tensor as pairs of reals."""
    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value


def as_complex(value: Tensor) -> Tensor:
    """A tensor in complex128."""
    return value.to(torch.complex128)


def algorithms(mixer: EosMixer) -> tuple[str, ...]:
    """Every algorithm that serves the mixer, in both directions."""
    names = fitting(mixer.recurrence.spec)
    second = fitting(mixer.second_pass.recurrence.spec)
    return tuple(name for name in names if name in second)


def kernels(build: Callable[..., EosMixer], tensors: dict[str, Tensor], read: Tensor, length: int) -> Tensor:
    """Impulse responses [channels H L] of one-input systems, for each row of the read-outs [channels H N]."""
    found = []
    for row in read:
        mixer = build(reverse="none", skip="none")
        impulse = torch.zeros(1, length, row.shape[0], dtype=torch.float64)
        impulse[:, 0] = 1
        outputs, _ = call(mixer, {**tensors, "shrink.direction": reals(row)}, impulse)
        found.append(outputs[0].T)
    return torch.stack(found)


def leaves_of(case: Case) -> dict[str, Tensor]:
    """Inputs and parameters; they ask for gradients where the case has some."""
    leaves = case.symbols("input", "parameter")
    if case.config["gradients"]:
        real = (symbol for symbol, value in leaves.items() if value.is_floating_point() or value.is_complex())
        leaves |= {symbol: leaves[symbol].requires_grad_() for symbol in real}
    return leaves


def batched(case: Case, value: Tensor) -> Tensor:
    """An input in the layout of the case as [B L D]."""
    layout = case.config["layout"]
    return value.transpose(1, 2) if layout == "BHL" else value[None] if layout == "LH" else value


def unbatched(case: Case, value: Tensor) -> Tensor:
    """[B L D] in the layout of the case."""
    layout = case.config["layout"]
    return value.transpose(1, 2) if layout == "BHL" else value[0] if layout == "LH" else value


def final_memory(mixer: EosMixer, tensors: dict[str, Tensor], x: Tensor, memory: Tensor | None = None) -> Any:
    """Outputs of a one-directional mixer, and its memory after the last step, [B H N]."""
    outputs, state = call(mixer, tensors, x, State(memory=None if memory is None else memory[..., None]))
    return outputs, state.memory[..., 0]


def finish(case: Case, name: str, leaves: dict[str, Tensor], found: dict[str, Tensor]) -> Iterator[Any]:
    """What an adapter yields: the outputs, with gradients where the case has them."""
    if case.config["gradients"]:
        found = with_gradients(leaves, found, case.symbols("cotangent"))
    yield name, found
