"""The state space presets: causality, streaming, documents, both directions, and the formulas of their papers."""

import math

import pytest
import torch

from lcsm.errors import UsageError
from lcsm.mixers.eos import EosMixer
from lcsm.stages.state_space.complex_vector import LearnedComplexExpand
from lcsm.stages.state_space.lru import Lru
from lcsm.stages.state_space.mode_projection import ModeInput, ModeOutput
from lcsm.stages.state_space.s4 import S4, full_read, truncated_read
from lcsm.stages.state_space.s4d import INITS
from lcsm.structures import Context
from tests.stages.state_space.presets import CAUSAL, STREAMING, WORDS, mixer_of, stream

# The recurrence alone.
BARE = ("mixer.skip.of=none", "mixer.skip.init=ones", "mixer.output.activation=identity", "mixer.output.form=none")


def assert_near(ours: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(ours, other, rtol=1e-9, atol=1e-10)


def stepped(mixer: EosMixer, x: torch.Tensor) -> torch.Tensor:
    state, steps = mixer.initial_state(), []
    with torch.no_grad():
        for t in range(x.shape[1]):
            outputs, state = mixer.step(x[:, t], state)
            steps.append(outputs)
    return torch.stack(steps, 1)


@pytest.mark.parametrize("name", STREAMING, scope="module")
def test_step_folds_to_forward(name: str):
    mixer, x = mixer_of(*WORDS[name]), stream(70)
    assert_near(stepped(mixer, x), mixer(x)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", CAUSAL)
def test_step_folds_to_forward_over_2048_tokens(name: str):
    mixer, x = mixer_of(*WORDS[name], "mixer.state_dim=32"), stream(2048)[:1]
    whole = mixer(x)[0]
    assert (stepped(mixer, x) - whole).abs().max() <= 1e-10 * whole.abs().max()
    single = mixer_of(*WORDS[name], "mixer.state_dim=32", dtype=torch.float32)
    whole = single(x.float())[0]
    assert (stepped(single, x.float()) - whole).abs().max() <= 1e-5 * whole.abs().max()


@pytest.mark.parametrize("name", [name for name in WORDS if name != "ldnn_bidirectional"])
def test_output_depends_on_no_later_input(name: str):
    mixer, x = mixer_of(*WORDS[name]), stream().requires_grad_()
    gradient = torch.autograd.grad(mixer(x)[0][:, 5].square().sum(), x)[0]
    assert gradient[:, :6].abs().sum() > 0
    assert gradient[:, 6:].abs().max() <= 1e-10 * gradient.abs().max()


@pytest.mark.parametrize("name", STREAMING, scope="module")
def test_split_with_carried_state_changes_nothing(name: str):
    mixer, whole, split = mixer_of(*WORDS[name]), stream().requires_grad_(), stream().requires_grad_()
    expected, _ = mixer(whole)
    expected.square().sum().backward()
    state, parts = mixer.initial_state(), []
    for start, stop in ((0, 1), (1, 3), (3, 13)):
        outputs, state = mixer(split[:, start:stop], state)
        parts.append(outputs)
    torch.cat(parts, 1).square().sum().backward()
    assert_near(torch.cat(parts, 1), expected)
    assert_near(split.grad, whole.grad)


@pytest.mark.parametrize("name", WORDS)
def test_packed_documents_give_what_they_give_alone(name: str):
    mixer, x = mixer_of(*WORDS[name]), stream()
    segments = torch.tensor([0] * 4 + [1] * 1 + [2] * 8).expand(2, 13)
    alone = torch.cat([mixer(x[:, start:stop])[0] for start, stop in ((0, 4), (4, 5), (5, 13))], 1)
    assert_near(mixer(x, None, Context(segments=segments))[0], alone)


@pytest.mark.parametrize("name", WORDS)
def test_every_fitting_algorithm_gives_the_same_numbers(name: str):
    mixer, x, found = mixer_of(*WORDS[name]), stream(), {}
    for algorithm in mixer.choice("cpu").available:
        other = mixer_of(*WORDS[name], f"mixer.algorithm={algorithm}")
        other.load_state_dict(mixer.state_dict())
        outputs, _ = other(x)
        found[algorithm] = [outputs, *torch.autograd.grad(outputs.square().sum(), list(other.parameters()))]
    for values in found.values():
        for ours, expected in zip(values, found[mixer.choice("cpu").available[-1]], strict=True):
            assert_near(ours, expected)


@pytest.mark.parametrize("name", WORDS)
def test_dynamics_take_no_weight_decay_and_a_rate_of_their_own(name: str):
    mixer = mixer_of(*WORDS[name])
    for parameter in mixer.oscillation.parameters():
        assert parameter._no_decay and parameter._lr_group == "oscillation"
        assert not parameter.is_complex()


def test_s4_is_the_dense_recurrence_of_its_matrix():
    mixer, x = mixer_of(*WORDS["s4"], *BARE), stream()
    rates, low_rank = (value for value in mixer.oscillation.system())
    outputs = torch.zeros(2, 13, 8, dtype=torch.complex128)
    for channel in range(8):
        rate, vector, read = (
            torch.cat([half, half.conj()])
            for half in (rates.value[0, 0, channel, :, 0], low_rank[0, 0, channel, :, 0],
                         torch.view_as_complex(mixer.shrink.direction)[channel])
        )  # fmt: skip
        write = torch.view_as_complex(mixer.expand.direction)[channel]
        matrix = torch.diag(rate) - vector[:, None] * vector.conj()
        step, identity = rates.step[0, 0, channel, 0, 0], torch.eye(8)
        inverse = torch.linalg.inv(identity - step / 2 * matrix)
        memory = torch.zeros(2, 8, dtype=torch.complex128)
        for t in range(13):
            memory = memory @ (inverse @ (identity + step / 2 * matrix)).T
            memory = memory + x[:, t, channel, None] * (step * inverse @ torch.cat([write, write.conj()]))
            outputs[:, t, channel] = memory @ read
    assert_near(mixer(x)[0], outputs.real)


def test_truncated_read_out_of_s4_is_undone():
    oscillation, expand = S4(3, 4, "legs", "exp", False, [1e-2, 1e-1], 1.0).double(), torch.ones(1, 1, 1, 1, 1)
    structure, _ = oscillation(torch.zeros(1, 1, 3), expand)
    read = torch.randn(1, 1, 3, 4, 1, dtype=torch.complex128)
    truncated = truncated_read(structure, read, 64)
    assert (truncated - read).abs().max() > 1e-3
    assert_near(full_read(structure, truncated, 64), read)


def test_s4_starts_at_hippo_legs():
    oscillation, expand = S4(1, 8, "legs", "exp", True, [1e-2, 1e-1], 1.0), LearnedComplexExpand(1, 8, "legs")
    rates, low_rank = oscillation.system()
    inputs, _ = expand(torch.zeros(1, 1, 1))
    # what the eigenvectors cannot change: B^* P and the trace
    product = 2 * (inputs.conj() * low_rank).real.sum()
    index = torch.arange(16.0)
    torch.testing.assert_close(product, ((2 * index + 1).sqrt() * (index + 0.5).sqrt()).sum(), rtol=1e-4, atol=0)
    assert rates.real.unique().numel() == 1


@pytest.mark.parametrize("grows", [False, True])
def test_dss_softmax_is_the_softmax_of_its_paper(grows: bool):
    mixer = mixer_of(*WORDS["dss_softmax"], *BARE, "oscillation.length=13", "oscillation.epsilon=1e-30")
    if grows:
        mixer.oscillation.real.data[::2] *= -200
    log_decay, phase, rates = (value[0, 0, ..., 0] for value in mixer.oscillation.rates())
    z = torch.complex(log_decay, phase)[..., None] * torch.arange(13)
    # a complex softmax over lags, stable by the largest real part
    weights = (z - z.real.amax(-1, keepdim=True)).exp()
    weights = weights / weights.sum(-1, keepdim=True) / rates[..., None]
    kernel = (torch.view_as_complex(mixer.shrink.direction)[..., None] * weights).sum(1).real
    impulse = torch.zeros(1, 13, 8, dtype=torch.float64)
    impulse[:, 0] = 1
    assert bool((log_decay > 0).any()) == grows
    assert_near(mixer(impulse)[0][0].T, kernel)


def test_dss_softmax_stays_finite_where_modes_grow_fast():
    mixer = mixer_of(*WORDS["dss_softmax"], dtype=torch.float32)
    mixer.oscillation.real.data[:] = 50.0
    outputs, _ = mixer(stream(2048).float())
    assert torch.isfinite(outputs).all()
    outputs.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in mixer.parameters())


def test_growing_modes_are_read_over_the_span_of_their_softmax():
    mixer, impulse = mixer_of(*WORDS["dss_softmax"], "oscillation.length=9", *BARE), torch.zeros(1, 13, 8)
    impulse[:, 0] = 1
    outputs, _ = mixer(impulse.double())
    assert outputs[:, 9:].abs().max() < 1e-12 and outputs[:, 8].abs().min() > 1e-6
    assert_near(outputs[:, :5], mixer(impulse[:, :5].double())[0])


def test_growing_modes_refuse_to_stream():
    mixer = mixer_of(*WORDS["dss_softmax"])
    with pytest.raises(UsageError, match="real=exp"):
        mixer.step(stream()[:, 0], mixer.initial_state())
    with pytest.raises(UsageError, match="hand_crafted"):
        mixer_of(*WORDS["dss_softmax"], "expand=data_driven")


@pytest.mark.parametrize(
    ("name", "extra", "shift"),
    [
        ("s4d_lin", ("mixer.reverse.shrink=own",), 1),
        ("s5", ("mixer.reverse.shrink=own", "mixer.reverse.exclusive=false"), 0),
        ("ldnn_bidirectional", (), 1),
    ],
)
def test_second_direction_starts_at_the_published_step(name: str, extra: tuple[str, ...], shift: int):
    mixer = mixer_of(*WORDS[name], *extra, *BARE)
    impulse = torch.zeros(1, 13, 8, dtype=torch.float64)
    impulse[:, 6] = 1
    both = mixer(impulse)[0]
    mixer.second_pass.runs = False
    backward = both - mixer(impulse)[0]
    assert (backward[:, 7 - shift :].abs() < 1e-12).all()
    assert backward[:, 6 - shift].abs().max() > 1e-6


def test_bidirectional_ldnn_reads_one_kernel_both_ways():
    mixer, x = mixer_of(*WORDS["ldnn_bidirectional"], *BARE), stream()
    both = mixer(x)[0]
    mixer.second_pass.runs = False
    later = mixer(x.flip(1))[0].flip(1)
    assert_near(both[:, :-1], mixer(x)[0][:, :-1] + later[:, 1:])


def test_lru_starts_uniformly_on_its_ring():
    structure, _ = Lru(1, 4000, 0.5, 0.9, 0.3)(torch.zeros(1, 1, 1), torch.ones(1, 1, 1, 1, 1))
    square = (2 * structure.log_decay).exp()
    assert square.min() >= 0.25 and square.max() <= 0.81
    assert abs(square.mean() - 0.53) < 0.01 and structure.phase.max() <= 0.3
    torch.testing.assert_close(structure.gain.square() + square, torch.ones_like(square))


@pytest.mark.parametrize(("init", "variance"), [("lecun", 1 / (16 * 64)), ("truncated_lecun", 1 / 64),
                                                ("normal", 1 / 64)])  # fmt: skip
def test_read_outs_start_with_the_published_variance(init: str, variance: float):
    drawn = ModeOutput(16, 1, 64, True, init, "none", 1, True).weight
    assert math.isclose(drawn.var().item(), variance, rel_tol=0.1)


def test_write_of_s5_starts_as_a_real_matrix_in_the_states():
    stage = ModeInput(12, 1, 8, True, "lecun", "hippo", 2, True)
    weight = torch.view_as_complex(stage.weight.detach())[0]
    # eigenvectors keep lengths: half of the energy of a real matrix of variance 1 / 16
    energy = weight.abs().square().sum() * 2
    assert 0.6 * 12 < energy < 1.4 * 12


def test_initial_spectra_of_s4d_are_those_of_its_table():
    count = torch.arange(4, dtype=torch.float64)
    torch.testing.assert_close(INITS["lin"](4).imag, math.pi * count)
    torch.testing.assert_close(INITS["inv"](4).imag, 8 / math.pi * (8 / (2 * count + 1) - 1))
    torch.testing.assert_close(INITS["real"](4).real, -(count + 1))
    for name in ("lin", "inv", "inv2", "quad", "legs"):
        assert torch.allclose(INITS[name](4).real, torch.tensor(-0.5, dtype=torch.float64))


def test_settings_that_do_not_go_together_are_refused():
    for name, words, text in (
        ("s4d_real", "oscillation.discretisation=bilinear", "init=real, and no bilinear"),
        ("s4d_lin", "oscillation.real=free", "free lets modes grow"),
        ("s5", "shrink.pairs=false", "shrink.pairs=False"),
        ("s4d_real", "shrink=learned_complex", "shrink=LearnedComplexShrink reads a complex memory"),
        ("lru", "oscillation.largest_modulus=1.5", "radii"),
        ("ldnn_multihead", "mixer.num_heads=3", "does not divide"),
    ):
        with pytest.raises(UsageError, match=text):
            mixer_of(*WORDS[name], words)
