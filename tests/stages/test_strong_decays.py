"""No NaN and no infinity, forward and backward, where decays are strong and gates are saturated both ways.

Decays are set to what no initialisation gives: 0 and down to -300 per step, side by side; in delta rules, whose key has
decayed as well, by the gate's own parameters. Gates are saturated by what they read. Each in float32, and under
autocast to bfloat16.
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
from lcsm.stages.delta.delta_rule import ForgetGate
from lcsm.structures import Decaying
from tests.stages.gated.presets import MODELS, model_of, tokens

DELTA = ["deltanet", "gated_deltanet", "kda", "comba", "gdn2", "deltaproduct", "rwkv7", "fwp"]
UNDECAYED = {"linear_attention", "linear_attention_norm", "cosformer", "lrpe", "rope_linear_attention", "based"}
GATED = [name for name in MODELS + DELTA if name not in UNDECAYED]
DECAYING = [name for name in GATED if name not in ("deltanet", "fwp")]
# The others have decays that follow no token.
SATURATED = [name for name in GATED if name not in ("retnet", "tnl", "rwkv5")]
# What their gates set, where it is not a decay, and its ends; decays that are bounded otherwise than by 80 or more.
SET = {"deltanet": "beta", "fwp": "beta", "rwkv4": "log_gain"}
ENDS = {
    **dict.fromkeys(("deltanet", "fwp"), (0.0, 1.0)),
    **dict.fromkeys(("hawk", "griffin"), (-0.8, 0.0)),
    "rwkv4": (-1e3, 1e3),
    "rwkv6": (-1.0, 0.0),
    "rwkv7": (-0.55, 0.0),
    "mlstm": (-15.0, 0.0),
}
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
    assert isinstance(structure, Decaying)
    changed = {"log_decay": drawn(structure.log_decay, LOGS)}
    if structure.step is not None:
        changed["step"] = drawn(structure.step, torch.tensor([1.0]))
    if structure.columns is not None:
        changed["columns"] = drawn(structure.columns, LOGS)
    if structure.log_gain is not None:
        changed["log_gain"] = drawn(structure.log_gain, torch.tensor([-300.0, 0.0, 300.0]))
    return replace(structure, **changed)


def sharpen(gate: ForgetGate) -> None:
    """Make a gate give log-decays between 0 and less than -300."""
    with torch.no_grad():
        gate.log_rate.zero_()
        gate.project.weight *= 1000


@contextmanager
def hooked(name: str, model: LanguageModel, seen: list[float], loud: float | None) -> Iterator[None]:
    """Make every oscillation read `loud` times its input, or give strong decays; the ends of what it gives are kept."""

    def before(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (arguments[0] * (1 if loud is None else loud), *arguments[1:])

    def after(module: nn.Module, arguments: Any, output: tuple[Any, Any]) -> tuple[Any, Any]:
        replaced = loud is None and not isinstance(getattr(module, "forget", None), ForgetGate)
        structure = strengthen(output[0]) if replaced else output[0]
        length = max(value.shape[1] for value in structure.tensors().values())
        value = getattr(structure, SET[name]) if name in SET and loud else structure.unfloored(0, length)
        seen.extend(float(end) for end in value.detach().aminmax())
        return structure, output[1]

    handles = []
    for stage in oscillations(model):
        if loud is None and isinstance(getattr(stage, "forget", None), ForgetGate):
            sharpen(stage.forget)
        handles += [stage.register_forward_pre_hook(before), stage.register_forward_hook(after)]
    yield
    for handle in handles:
        handle.remove()


def ends(name: str, precision: str, loud: float | None) -> tuple[float, float]:
    """Train one step and check that everything is finite; the smallest and largest value that the oscillations gave."""
    model, seen = model_of(name).float(), []
    low = torch.autocast("cpu", PRECISIONS[precision], enabled=precision != "float32")
    with hooked(name, model, seen, loud), low:
        logits, _ = model(tokens(STEPS))
        loss = logits.float().square().mean()
    loss.backward()
    assert logits.isfinite().all()
    broken = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.isfinite().all()]
    assert not broken
    return min(seen), max(seen)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", DECAYING)
def test_decays_down_to_minus_300_stay_finite(name: str, precision: str):
    assert ends(name, precision, None)[0] <= -300


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", SATURATED)
def test_saturated_gates_stay_finite(name: str, precision: str):
    smallest, largest = ends(name, precision, 1e5)
    low, high = ENDS.get(name, (-80.0, 0.0))
    assert smallest <= low + 1e-3 and largest >= high - 1e-3
