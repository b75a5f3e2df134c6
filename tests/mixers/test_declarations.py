"""What the stages of every named model declare is what their tensors are."""

from typing import Any

import pytest
import torch

from lcsm.mixers.eos import EosMixer
from lcsm.models.build import build_model
from lcsm.structures import Decaying, Structure
from tests.compose import compose, options

BATCH, LENGTH, WIDTH = 3, 2, 32
MODELS = [name for name in options("model") if name != "attention"]


def mixer_of(name: str) -> EosMixer:
    """The first mixer of a named model with stages."""
    model = build_model(compose(f"model={name}", f"model.d_model={WIDTH}", "model.num_layers=2"), 11)
    return next(module for module in model.modules() if isinstance(module, EosMixer))


def values_of(mixer: EosMixer) -> dict[str, Any]:
    """What the stages of a mixer return for a few tokens, by name."""
    seen: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda module, arguments, result: seen.update({name: result[0]})

    for name in ("expand", "oscillation", "shrink"):
        getattr(mixer, name).register_forward_hook(keep(name))
    mixer(torch.randn(BATCH, LENGTH, WIDTH))
    return seen


@pytest.mark.parametrize("name", MODELS)
def test_the_tensors_of_every_model_vary_along_the_declared_axes_alone(name: str):
    mixer = mixer_of(name)
    spec, values = mixer.recurrence.spec, values_of(mixer)
    sizes = {"H": spec.num_heads, "N": spec.state_dim, "P": spec.value_dim}
    found = {"expand": values["expand"], "shrink": values["shrink"]}
    structure = values["oscillation"]
    if isinstance(structure, Decaying):
        found |= {"phase": structure.phase}
        # S4 applies its gain as a half step of the whole transition
        found |= {} if type(structure).apply_gain is not Structure.apply_gain else {"gain": structure.gain}
        found |= {"decay": None if spec.decay is None else structure.log(0, LENGTH * spec.substeps)}
    for field, value in found.items():
        declared = getattr(spec, field)
        assert (declared is None) == (value is None), field
        if value is not None:
            steps = LENGTH if field == "shrink" else LENGTH * spec.substeps
            time = (BATCH, steps) if "L" in declared else (1, 1)
            expected = (*time, *(size if axis in declared else 1 for axis, size in sizes.items()))
            assert tuple(value.shape) + (1,) * (5 - value.ndim) == expected, (field, declared)
