"""Oscillations of gated and linear-attention models: their formulas, where they start, and what they refuse."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lcsm.errors import UsageError
from lcsm.stages.activation import soft_capped
from lcsm.stages.decay.fixed import FORMULAS
from lcsm.stages.gated.gate import Gate
from lcsm.stages.gated.lower_bounds import LowerBounds, bounded_log_sigmoid
from lcsm.stages.gated.rg_lru import RgLru, _BoundedRoot
from lcsm.stages.rwkv.decay import ExponentialRate
from tests.stages.options import BATCH, LENGTH, build, call, documents, example


def gate(**changes: Any) -> Gate:
    return build("oscillation", changes.pop("option", "hgrn2"), **changes)


@pytest.mark.parametrize(
    ("formula", "layer", "expected"),
    [
        ("none", 0, [0.0, 0.0]),
        ("retnet", 0, [math.log(1 - 2**-5), math.log(1 - 2**-6)]),
        ("tnl", 0, [-(2**-4) * 1.00001, -(2**-8) * 1.00001]),
        ("tnl", 3, [-(2**-4) * (1 - 3 / 3.00001 + 1e-5), -(2**-8) * (1 - 3 / 3.00001 + 1e-5)]),
        ("lightning", 1, [0.0, -3.0]),
    ],
)
def test_fixed_decays_are_those_of_their_formula(formula: str, layer: int, expected: list[float]):
    torch.testing.assert_close(FORMULAS[formula](2, layer, 4), torch.tensor(expected), rtol=1e-6, atol=0)


def test_uniform_rotation_weighs_a_lag_by_its_cosine():
    structure = call(build("oscillation", "cosformer", length=8), example())[0]
    lags = torch.arange(9.0)
    torch.testing.assert_close((structure.factor(0, 1).flatten() ** lags).real, (math.pi * lags / 16).cos())


def test_lower_bounds_grow_from_zero_and_are_shared_by_the_layers():
    common: dict[Any, Any] = {}
    layers = [gate(common=common, layer=layer, num_layers=4) for layer in range(4)]
    assert len(common) == 1 and all(layer.bounds is layers[0].bounds for layer in layers)
    bounds = LowerBounds(4, (2, 1, 1))
    for layer in range(4):
        torch.testing.assert_close(bounds(layer), torch.full((2, 1, 1), layer / 4))
    torch.nn.init.normal_(bounds.logits)
    shares = bounds.logits.softmax(0)
    torch.testing.assert_close(bounds(2), shares.cumsum(0)[2] - shares[0])


@pytest.mark.parametrize("bound", [0.0, 1e-6, 0.3, 0.999])
def test_bounded_gate_is_exact_and_finite_everywhere(bound: float):
    logits = torch.linspace(-200, 200, 41, dtype=torch.float64).requires_grad_()
    limit = torch.tensor(bound, dtype=torch.float64, requires_grad=True)
    found = bounded_log_sigmoid(logits, limit)
    plain = bound + (1 - bound) * logits.detach().clamp(-60, 60).sigmoid()
    torch.testing.assert_close(found[12:29].exp(), plain[12:29])
    gradients = torch.autograd.grad(found.sum(), [logits, limit])
    assert (found <= 0).all() and all(value.isfinite().all() for value in (found, *gradients))


@pytest.mark.parametrize("option", ["hgrn", "hgrn2", "hgrn_complex", "metala", "gsa", "mingru"])
def test_what_is_written_is_the_complement_of_what_is_kept(option: str):
    structure = call(gate(option=option).double(), 5 * example(dtype=torch.float64))[0]
    torch.testing.assert_close(structure.gain, 1 - structure.log(0, LENGTH).exp())


@pytest.mark.parametrize(("option", "layer", "low"), [("gla", 3, 0.0), ("hgrn2", 3, 0.75)])
def test_gate_stays_above_its_bound(option: str, layer: int, low: float):
    structure = call(gate(option=option, layer=layer, num_layers=4, tau=1), 100 * example())[0]
    assert structure.log(0, LENGTH).exp().min() >= low - 1e-6


def test_bound_may_be_a_number_or_follow_the_layer():
    assert gate(lower_bound=0.25).fixed_bound == 0.25
    assert gate(lower_bound="layer", layer=3, num_layers=4).fixed_bound == 0.75
    for wrong in (1.0, -0.1):
        with pytest.raises(UsageError, match=r"oscillation.lower_bound=.* must be a number in \[0, 1\), layer or"):
            gate(lower_bound=wrong)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"axes": "outer", "complement": True}, r"axes=outer is the product of two gates"),
        ({"axes": "outer", "lower_bound": 0.5}, r"set oscillation.complement=false oscillation.lower_bound=0.0"),
        ({"axes": "columns", "phase": "data"}, r"oscillation.phase=data turns rows: use axes=rows or scalar"),
        ({"phase": "learned"}, r"set oscillation.phase_base=10000"),
        ({"phase": "data", "phase_base": 100.0}, r"set oscillation.phase_base=null"),
    ],
)
def test_gate_refuses_settings_that_do_not_go_together(changes: dict[str, Any], text: str):
    with pytest.raises(UsageError, match=text):
        gate(option="diag", **changes)


def test_gateloop_turns_by_a_projection_of_the_token():
    stage, x = gate(option="gateloop"), example()
    structure = call(stage, x)[0]
    torch.testing.assert_close(structure.angle(0, LENGTH), (x @ stage.turn.weight.T).view(BATCH, LENGTH, 2, 4, 1))
    torch.testing.assert_close(structure.log(0, LENGTH).flatten(2), F.logsigmoid(stage.projections[0](x)))


@pytest.mark.parametrize(("option", "start", "span"), [("rwkv4", -5, 8), ("rwkv5", -6, 5), ("rwkv6", -6, 5)])
def test_rwkv_starts_with_its_published_decays(option: str, start: int, span: int):
    stage = build("oscillation", option, layer=1, num_layers=3)
    assert isinstance(stage, ExponentialRate)
    count = stage.log_rate.numel()
    expected = [start + span * (n / (count - 1)) ** (0.7 + 1.3 * 0.5) for n in range(count)]
    torch.testing.assert_close(stage.log_rate.flatten(), torch.tensor(expected))
    log_decay = call(stage, example())[0].log(0, LENGTH)[:1, :1].flatten()
    torch.testing.assert_close(log_decay, -torch.tensor(expected).exp())


def test_mlstm_gates_are_capped_and_start_where_published():
    stage = build("oscillation", "mlstm")
    torch.testing.assert_close(stage.project_forget.bias, torch.tensor([3.0, 6.0]))
    structure = call(stage, example())[0]
    capped = 15 * math.tanh(-10 / 15)
    torch.testing.assert_close(structure.log_gain, torch.full((BATCH, LENGTH, 2, 1, 1), capped))
    assert float(soft_capped(torch.tensor(1e6), stage.soft_cap)) == 15


@pytest.mark.parametrize("epsilon", [None, 1e-4])
def test_minlstm_gates_sum_to_one(epsilon: float | None):
    stage, x = build("oscillation", "minlstm", epsilon=epsilon).double(), 8 * example(dtype=torch.float64)
    structure = call(stage, x)[0]
    forget, write = (layer(x).sigmoid()[..., None, None] for layer in (stage.project_forget, stage.project_input))
    total = forget + write + (epsilon or 0.0)
    torch.testing.assert_close(structure.log(0, LENGTH).exp(), forget / total)
    torch.testing.assert_close(structure.gain, write / total)


def test_rg_lru_starts_on_its_ring_and_keeps_the_variance():
    stage = build("oscillation", "griffin", num_heads=600)
    modulus = (-F.softplus(stage.rate)).exp()
    assert 0.9 <= modulus.min() < 0.91 and 0.998 < modulus.max() <= 0.999
    structure = call(stage, example())[0]
    decay = structure.log(0, LENGTH).exp()
    torch.testing.assert_close((structure.gain**2 + decay**2)[:, 1:], torch.ones(BATCH, LENGTH - 1, 600, 1, 1))
    assert (structure.gain[:, 0] == 1).all()


def test_rg_lru_writes_fully_where_documents_begin_and_nowhere_else():
    stage, x = build("oscillation", "griffin"), example()
    ids = [0, 0, 0, 1, 1, 0, 0]
    first, past = call(stage, x[:, :4], None, documents(ids, 0, 4))
    second, past = call(stage, x[:, 4:6], past, documents(ids, 4, 6))
    third, _ = call(stage, x[:, 6:], past)
    gain = torch.cat([part.gain for part in (first, second, third)], 1)
    assert ((gain == 1).all(dim=(0, 2, 3, 4))).tolist() == [True, False, False, True, False, True, False]
    assert (call(build("oscillation", "griffin", full_start=False), x)[0].gain < 1).all()


def test_bounded_root_has_a_derivative_of_at_most_one_thousand():
    value = torch.tensor([0.0, 1e-12, 0.25], dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(_BoundedRoot.apply(value).sum(), value)[0]
    assert gradient.tolist() == pytest.approx([1000, 1000, 1])


@pytest.mark.parametrize("changes", [{"modulus_range": [0.9]}, {"modulus_range": [0.9, 1.0]}, {"rate_repeats": 3}])
def test_rg_lru_refuses_what_is_no_ring_or_does_not_divide(changes: dict[str, Any]):
    with pytest.raises(UsageError, match=f"oscillation.{next(iter(changes))}"):
        build("oscillation", "griffin", **changes)
    assert isinstance(build("oscillation", "griffin", rate_repeats=2), RgLru)


def test_mamba2_starts_within_its_ranges():
    stage = build("oscillation", "mamba2", num_heads=500)
    rate, step = stage.log_rate.exp(), F.softplus(stage.bias)
    assert 1 <= rate.min() < 1.2 and 15.8 < rate.max() <= 16
    assert 1e-3 * 0.999 <= step.min() < 1.1e-3 and 0.09 < step.max() <= 0.1001
    structure = call(build("oscillation", "mamba2", step_limit=[0.5, 0.6]), 10 * example())[0]
    assert structure.step.min() >= 0.5 and structure.step.max() <= 0.6
    assert torch.equal(structure.gain, structure.step)


def test_mamba_takes_its_rank_from_the_width():
    assert build("oscillation", "mamba", d_model=40).reduce.out_features == 3


@pytest.mark.parametrize(("start", "empty"), [("zero", 0.0), ("one", 1.0)])
def test_lightnet_weighs_a_token_by_its_share_of_the_weights_so_far(start: str, empty: float):
    stage, x = build("oscillation", "softmax", start=start), example()
    weights = stage.projection(x).exp().view(BATCH, LENGTH, 2, 4, 1)
    sums = weights.cumsum(1) + empty
    structure = call(stage, x)[0]
    torch.testing.assert_close(structure.gain, weights / sums)
    torch.testing.assert_close(structure.log(0, LENGTH)[:, 1:].exp(), (sums[:, :-1] / sums[:, 1:]))
