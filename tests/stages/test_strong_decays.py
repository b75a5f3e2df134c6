"""No NaN and no infinity, forward and backward, where decays are strong and gates are saturated both ways.

Decays are set to what no initialisation gives: 0 and down to -300 per step, side by side. Gates are saturated by what
they read. Each in float32, and under autocast to bfloat16.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lcsm.mixers.eos import EosMixer
from lcsm.models.language_model import LanguageModel
from lcsm.structures import Diagonal
from tests.stages.gated import MODELS, model_of, tokens

DELTA = ["deltanet", "gated_deltanet", "kda", "comba", "gdn2", "deltaproduct", "rwkv7", "fwp"]
UNDECAYED = {"linear_attention", "linear_attention_norm", "cosformer", "lrpe", "rope_linear_attention", "based"}
GATED = [name for name in MODELS + DELTA if name not in UNDECAYED]
DECAYING = [name for name in GATED if name not in ("deltanet", "fwp")]
# a chunk and a bit
STEPS = 70
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LOGS = torch.tensor([0.0, -1e-6, -0.1, -3.0, -60.0, -100.0, -300.0])


def oscillations(model: LanguageModel) -> list[nn.Module]:
    return [mixer.oscillation for mixer in model.backbone.mixers() if isinstance(mixer, EosMixer)]


def drawn(value: Tensor, choices: Tensor) -> Tensor:
    """Numbers drawn from `choices`, with the shape and the graph of a value."""
    pattern = choices[torch.randint(len(choices), value.shape)].to(value.dtype)
    return pattern + (value - value.detach())


def strengthen(structure: Any) -> Any:
    """The same structure with log-decays between 0 and -300."""
    assert isinstance(structure, Diagonal)
    changed = {"log_decay": drawn(structure.log_decay, LOGS)}
    if structure.step is not None:
        changed["step"] = drawn(structure.step, torch.tensor([1.0]))
    if structure.columns is not None:
        changed["columns"] = drawn(structure.columns, LOGS)
    if structure.log_gain is not None:
        changed["log_gain"] = drawn(structure.log_gain, torch.tensor([-300.0, 0.0, 300.0]))
    return replace(structure, **changed)


@contextmanager
def hooked(model: LanguageModel, seen: list[float], loud: float | None) -> Iterator[None]:
    """Make every oscillation read `loud` times its input, or return strong decays; the smallest log-decays are kept."""

    def before(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (arguments[0] * (1 if loud is None else loud), *arguments[1:])

    def after(module: nn.Module, arguments: Any, output: tuple[Any, Any]) -> tuple[Any, Any]:
        structure = strengthen(output[0]) if loud is None else output[0]
        length = max(value.shape[1] for value in structure.tensors().values())
        seen.append(float(structure.unfloored(0, length).detach().min()))
        return structure, output[1]

    stages = oscillations(model)
    handles = [stage.register_forward_pre_hook(before) for stage in stages]
    handles += [stage.register_forward_hook(after) for stage in stages]
    yield
    for handle in handles:
        handle.remove()


def least_log_decay(name: str, precision: str, loud: float | None) -> float:
    """Train one step and check that everything is finite; the smallest log-decay that occurred."""
    model, seen = model_of(name).float(), []
    low = torch.autocast("cpu", PRECISIONS[precision], enabled=precision != "float32")
    with hooked(model, seen, loud), low:
        logits, _ = model(tokens(STEPS))
        loss = logits.float().square().mean()
    loss.backward()
    assert logits.isfinite().all()
    broken = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.isfinite().all()]
    assert not broken
    return min(seen)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", DECAYING)
def test_decays_down_to_minus_300_stay_finite(name: str, precision: str):
    assert least_log_decay(name, precision, None) <= -300


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", GATED)
def test_saturated_gates_stay_finite(name: str, precision: str):
    least_log_decay(name, precision, 1e5)
