"""Discretisation rules against matrix exponentials and the formulas of the literature."""

import pytest
import torch

from lcsm.errors import UsageError
from lcsm.stages.state_space.discretisation import RULES, Rates, exponential_minus_one, log_uniform_steps
from lcsm.stages.state_space.s4d import S4D
from lcsm.stages.state_space.s5 import S5
from lcsm.structures import Context
from tests.stages.state_space.presets import WORDS, mixer_of, stream

REAL = -torch.tensor([0.1, 1.0, 3.0, 40.0], dtype=torch.float64)
IMAGINARY = torch.tensor([-300.0, 0.0, 2.5, 7.0], dtype=torch.float64)
STEP = torch.tensor([0.001, 0.02, 0.3, 0.1], dtype=torch.float64)


def discrete(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    log_decay, phase, gain = RULES[name](Rates(*(value.view(1, 1, 1, -1, 1) for value in (REAL, IMAGINARY, STEP))))
    return torch.polar(log_decay.exp(), phase).flatten(), torch.ones_like(STEP) if gain is None else gain.flatten()


def test_zero_order_hold_is_the_exponential_of_the_joint_matrix():
    factor, gain = discrete("zero_order_hold")
    for index, rate in enumerate(torch.complex(REAL, IMAGINARY)):
        joint = torch.zeros(2, 2, dtype=torch.complex128)
        joint[0, 0], joint[0, 1] = rate * STEP[index], STEP[index]
        exact = torch.matrix_exp(joint)
        torch.testing.assert_close(factor[index], exact[0, 0])
        torch.testing.assert_close(gain[index], exact[0, 1])


def test_bilinear_is_the_trapezoidal_rule():
    factor, gain = discrete("bilinear")
    z = torch.complex(REAL, IMAGINARY) * STEP
    torch.testing.assert_close(factor, (1 + z / 2) / (1 - z / 2))
    torch.testing.assert_close(gain, STEP / (1 - z / 2))


def test_euler_and_dirac_decay_exactly():
    z = torch.complex(REAL, IMAGINARY) * STEP
    for name, gain in (("euler", STEP), ("dirac", torch.ones_like(STEP))):
        torch.testing.assert_close(discrete(name)[0], z.exp())
        torch.testing.assert_close(discrete(name)[1], gain)


def test_bilinear_of_a_slow_mode_keeps_its_digits_in_float32():
    rates = [torch.full((1, 1, 1, 1, 1), value) for value in (-0.5, -3.0, 1e-5)]
    log_decay, _, _ = RULES["bilinear"](Rates(*rates))
    torch.testing.assert_close(log_decay.flatten(), torch.tensor([-0.5e-5]), rtol=1e-5, atol=0)


def test_bilinear_at_its_zero_has_a_finite_gradient():
    real = torch.full((1, 1, 1, 1, 1), -2.0, requires_grad=True)
    log_decay, _, _ = RULES["bilinear"](Rates(real, torch.zeros_like(real), torch.ones_like(real)))
    assert torch.isfinite(torch.autograd.grad(log_decay.sum(), real)[0]).all() and log_decay.item() < -30


def test_exponential_minus_one_of_small_numbers():
    tiny = torch.tensor([1e-7]), torch.tensor([-2e-7])
    torch.testing.assert_close(exponential_minus_one(*tiny), torch.complex(*tiny), rtol=1e-5, atol=0)


def test_steps_are_log_uniform_in_their_range():
    steps = log_uniform_steps((4000,), [1e-3, 1e-1]).exp()
    assert steps.min() >= 1e-3 and steps.max() <= 1e-1
    assert abs(steps.log10().mean() + 2) < 0.05
    with pytest.raises(UsageError, match="step_range"):
        log_uniform_steps((1,), [0.1, 0.001])


def test_rate_two_is_one_long_step_in_place_of_two_with_held_input():
    slow, fast = mixer_of("model=s4d_lin", "oscillation.rate=2.0"), mixer_of("model=s4d_lin")
    fast.load_state_dict(slow.state_dict())
    fast.skip.weight.data.zero_()
    slow.skip.weight.data.zero_()
    x = stream(length=9)
    torch.testing.assert_close(slow(x)[0], fast(x.repeat_interleave(2, 1))[0][:, 1::2])


@pytest.mark.parametrize("words", [WORDS["s5"], (*WORDS["s4d_lin"], "oscillation.discretisation=euler")])
def test_irregular_steps_of_one_change_nothing(words: tuple[str, ...]):
    irregular, regular = mixer_of(*words, "oscillation.irregular=true"), mixer_of(*words)
    regular.load_state_dict(irregular.state_dict())
    x = stream()
    outputs, _ = irregular(x, None, Context(dt=torch.ones(x.shape[:2], dtype=x.dtype)))
    torch.testing.assert_close(outputs, regular(x)[0])


def test_irregular_step_of_two_holds_its_input_for_two_steps():
    irregular, regular = mixer_of(*WORDS["s5"], "oscillation.irregular=true"), mixer_of(*WORDS["s5"])
    regular.load_state_dict(irregular.state_dict())
    x, lengths = stream(length=5), torch.tensor([[1, 2, 1, 3, 2]] * 2)
    held = torch.stack([row.repeat_interleave(count, 0) for row, count in zip(x, lengths, strict=True)])
    outputs, _ = irregular(x, None, Context(dt=lengths.double()))
    torch.testing.assert_close(outputs, regular(held)[0][:, lengths[0].cumsum(0) - 1])


def test_irregular_steps_stream_and_every_algorithm_agrees():
    mixer, x = mixer_of(*WORDS["s5"], "oscillation.irregular=true"), stream()
    dt = torch.rand(x.shape[:2], dtype=x.dtype) + 0.5
    whole, state, steps = mixer(x, None, Context(dt=dt))[0], mixer.initial_state(), []
    for t in range(x.shape[1]):
        outputs, state = mixer.step(x[:, t], state, Context(dt=dt[:, t : t + 1]))
        steps.append(outputs)
    torch.testing.assert_close(torch.stack(steps, 1), whole)
    for name in mixer.choice("cpu").available:
        other = mixer_of(*WORDS["s5"], "oscillation.irregular=true", f"mixer.algorithm={name}")
        other.load_state_dict(mixer.state_dict())
        torch.testing.assert_close(other(x, None, Context(dt=dt))[0], whole)


def test_irregular_declarations_and_calls_must_agree():
    x = stream()
    with pytest.raises(UsageError, match=r"oscillation\.irregular=true"):
        mixer_of(*WORDS["s5"])(x, None, Context(dt=torch.ones(x.shape[:2])))
    with pytest.raises(UsageError, match="no step lengths"):
        mixer_of(*WORDS["s5"], "oscillation.irregular=true")(x)
    for name, stage in (("lru", "Lru"), ("dss_exp", "Dss"), ("s4", "S4")):
        with pytest.raises(UsageError, match=f"oscillation={stage} as it was built takes steps\nof one length only"):
            mixer_of(*WORDS[name])(x, None, Context(dt=torch.ones(x.shape[:2])))
    with pytest.raises(UsageError, match="euler or dirac"):
        S4D(4, 2, "lin", "complex", "exp", False, "zero_order_hold", [1e-3, 1e-1], 1.0, True)


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("real", ["exp", "softplus", "sigmoid", "gaussian", "clip"])
def test_every_map_and_rule_starts_where_it_should_and_never_grows(real: str, rule: str):
    oscillation = S5(1, 8, 1, True, real, rule, [1e-3, 1e-1], 1.0, False)
    torch.testing.assert_close(oscillation.rates().real, torch.full((1, 1, 1, 8, 1), -0.5))
    oscillation.real.data.normal_(std=5)
    structure, _ = oscillation(torch.zeros(1, 1, 1), torch.ones(1, 1, 1, 1, 1))
    assert (structure.log(0, 1) <= 0).all() and torch.isfinite(structure.factor(0, 1)).all()
