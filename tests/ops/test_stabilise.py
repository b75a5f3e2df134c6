"""The running maximum bounds the weights and changes neither outputs nor gradients."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lcsm.ops.reference import reference
from lcsm.ops.stabilise import stabilise
from lcsm.structures import Diagonal
from tests.ops.agreement import Case, gradients, random_resets

CASES = {
    "mLSTM": (Case({"log_decay": "BLH", "log_gain": "BLH"}), 0.0),
    "RWKV-4": (Case({"log_decay": "H", "log_gain": "BLH"}, "BLHP", "", "", 5, 1, 1), -1e38),
    "per column": (Case({"log_decay": "H", "log_gain": "BLHP"}), 0.0),
}


def run(case: Case, leaves: dict[str, Tensor], start: float | None, resets: Tensor | None = None, **settings) -> Tensor:
    """Outputs with bounded weights, or with the plain ones where start is None."""
    structure = Diagonal(log_decay=leaves["log_decay"], log_gain=leaves["log_gain"])
    if start is None:
        gain, structure = structure.log_gain.exp(), replace(structure, log_gain=None)
    else:
        structure, scale = stabilise(structure, start, resets=resets)
        gain = structure.gain
    spec = case.spec(**settings)
    inputs = leaves["inputs"] * gain.squeeze(3)
    outputs, _ = reference(spec, structure, inputs, leaves["expand"], leaves["shrink"], resets=resets)
    if start is None:
        return outputs
    return outputs * (scale.before if spec.exclusive else scale.after).squeeze(3).clamp_min(-1e3).exp()


@pytest.mark.parametrize("packed", [False, True], ids=["one segment", "packed"])
@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_do_not_change(name: str, exclusive: bool, packed: bool):
    case, start = CASES[name]
    leaves, resets = case.leaves(13), random_resets(13) if packed else None
    expected = run(case, leaves, None, resets, exclusive=exclusive)
    found = run(case, leaves, start, resets, exclusive=exclusive)
    torch.testing.assert_close(found, expected)
    for one, other in zip(*(gradients([y], leaves).values() for y in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", CASES)
def test_scale_is_the_running_maximum_and_carries(name: str):
    case, start = CASES[name]
    leaves, scale, expected = case.leaves(9), torch.tensor(start, dtype=torch.float64), []
    structure = Diagonal(log_decay=leaves["log_decay"], log_gain=leaves["log_gain"])
    for t in range(9):
        scale = torch.maximum(structure.log(t, t + 1) + scale, leaves["log_gain"][:, t : t + 1])
        expected.append(scale)
    _, whole = stabilise(structure, start)
    torch.testing.assert_close(whole.after, torch.cat(expected, 1).expand_as(whole.after))
    _, first = stabilise(structure.rows(0, 4), start)
    bounded, second = stabilise(structure.rows(4, 9), start, first.after[:, -1])
    torch.testing.assert_close(second.after, whole.after[:, 4:])
    torch.testing.assert_close(bounded.gain, stabilise(structure, start)[0].gain[:, 4:])


@pytest.mark.parametrize("name", CASES)
def test_strong_weights_stay_bounded_and_finite(name: str):
    case, start = CASES[name]
    leaves = {key: value.detach().float().requires_grad_() for key, value in case.leaves(33).items()}
    structure = Diagonal(log_decay=300 * leaves["log_decay"], log_gain=300 * leaves["log_gain"])
    bounded, _ = stabilise(structure, start, resets=random_resets(33))
    inputs = leaves["inputs"] * bounded.gain.squeeze(3)
    outputs, _ = reference(case.spec(), bounded, inputs, leaves["expand"], leaves["shrink"])
    assert bounded.gain.max() <= 1
    assert all(torch.isfinite(value).all() for value in (outputs, *gradients([outputs], leaves).values()))


def test_missing_gain_and_gain_along_rows_are_refused():
    with pytest.raises(ValueError, match="has none"):
        stabilise(Diagonal(log_decay=torch.zeros(1, 1, 1, 1, 1)), 0.0)
    with pytest.raises(ValueError, match="constant along N"):
        stabilise(Diagonal(log_decay=torch.zeros(1, 1, 1, 1, 1), log_gain=torch.zeros(1, 3, 1, 4, 1)), 0.0)
