"""The oscillations against their formulas, written again in a few lines."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lcsm.errors import UsageError
from lcsm.ops.reference import reference
from lcsm.ops.spec import RecurrenceSpec
from lcsm.stages.decay.dense import OrthogonalDecay
from lcsm.stages.decay.fixed import slopes
from lcsm.stages.decay.rotation import angles
from lcsm.structures import Context, Diagonal
from tests.stages.options import BATCH, LENGTH, build, call, documents, example, names

ALIBI = [-(2.0**-j) for j in range(1, 9)]


def decay(stage: Any, x: Tensor) -> Tensor:
    """What the memory of one head is multiplied by, [B L N P]."""
    value = call(stage, x)[0].factor(0, x.shape[1])
    return value.expand(x.shape[0], x.shape[1], 1, 4, 3)[:, :, 0]


def single(option: str, **changes: Any) -> Any:
    return build("oscillation", option, num_heads=1, **changes)


def test_slopes_of_eight_and_six_are_those_of_alibi():
    assert slopes(8).tolist() == ALIBI
    assert slopes(6).tolist() == [-(2.0**-j) for j in (2, 4, 6, 8, 1, 3)]
    assert slopes(1).tolist() == [-(2.0**-8)]


def test_fixed_slopes_lie_over_heads_and_slow_down_with_depth():
    scale = {"layer": 3, "num_layers": 4, "formula": "alibi_layers"}
    stage = build("oscillation", "decay", num_heads=8, **scale)
    assert call(stage, example())[0].log_decay.flatten().tolist() == [value / 4 for value in ALIBI]


@pytest.mark.parametrize(("option", "count"), [("decay_rows", 4), ("decay_columns", 3), ("decay_full", 12)])
def test_fixed_decays_of_types_4_5_and_0(option: str, count: int):
    expected = slopes(count).exp().view((4, 1) if count == 4 else (1, 3) if count == 3 else (4, 3))
    torch.testing.assert_close(decay(single(option), example()), expected.expand(BATCH, LENGTH, 4, 3))


@pytest.mark.parametrize("option", ["learned", "learned_rows", "learned_columns", "learned_full"])
def test_learned_decays_of_types_4_5_and_0(option: str):
    stage = single(option, tau=4)
    expected = torch.sigmoid(stage.logits[0]) ** (1 / 4)
    torch.testing.assert_close(decay(stage, example()), expected.expand(BATCH, LENGTH, 4, 3))


def test_data_driven_decays_of_types_3_2_and_1():
    x = example()
    for option, axes in (("diag_scalar", "blx"), ("diag", "bln"), ("diag_columns", "blp"), ("diag_outer", "bln,blp")):
        stage = single(option, tau=8)
        gates = [torch.sigmoid(x @ projection.weight.T) ** (1 / 8) for projection in stage.projections]
        expected = torch.einsum(f"{axes}->bl{axes.replace('bl', '').replace(',', '')}", *gates)
        expected = {"diag": expected[..., None] if option == "diag" else expected}.get(option, expected)
        expected = expected[:, :, None] if option in ("diag_scalar", "diag_columns") else expected
        torch.testing.assert_close(decay(stage, x), expected.expand(BATCH, LENGTH, 4, 3))


@pytest.mark.parametrize(
    ("option", "product"),
    [("mixed_a", "bln,np"), ("mixed_b", "blp,np"), ("mixed_c", "blp,n"), ("mixed_d", "bln,p")],
)
def test_mixed_decays_of_types_6_to_9(option: str, product: str):
    stage, x = single(option, tau=2, std=1.0), example()
    weights = stage.weights[0].view([size for size in stage.weights[0].shape if size > 1])
    logits = torch.einsum(f"{product}->blnp", x @ stage.projection.weight.T, weights)
    torch.testing.assert_close(decay(stage, x), torch.sigmoid(logits) ** (1 / 2))


def test_mixed_structure_gives_what_its_full_decay_gives_also_in_parts_and_reversed():
    structure = call(build("oscillation", "mixed_a", std=2.0).double(), example(dtype=torch.float64))[0]
    full = structure.log(0, LENGTH)
    assert torch.equal(structure.rows(2, 5).log(0, 3), full[:, 2:5])
    assert torch.equal(structure.flip().log(0, LENGTH), full.flip(1))
    memory = torch.randn(BATCH, 2, 4, 3, dtype=torch.float64)
    for t in range(LENGTH):
        assert torch.equal(structure.advance(memory, t), Diagonal(log_decay=full).advance(memory, t))


def test_mixed_gradients_are_correct():
    stage, x = build("oscillation", "mixed_d").double(), example(dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: call(stage, x)[0].log(0, LENGTH), (x, *stage.parameters()))


def softmax_problem(stage: Any) -> RecurrenceSpec:
    return RecurrenceSpec(
        kind="diagonal",
        decay=stage.decay,
        gain=stage.gain,
        expand="",
        shrink="",
        num_heads=2,
        state_dim=4,
        value_dim=3,
    )


def test_cumulative_softmax_makes_the_memory_a_softmax_mean_of_type_12():
    stage, x = build("oscillation", "softmax").double(), 5 * example(dtype=torch.float64)
    inputs = torch.randn(BATCH, LENGTH, 2, 3, dtype=torch.float64)
    structure, one = call(stage, x)[0], torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    _, memory = reference(softmax_problem(stage), structure, inputs, structure.gain, one, keep=True)
    weights = stage.projection(x).unflatten(-1, (2, 4)).softmax(1)
    torch.testing.assert_close(memory, torch.einsum("blhn,blhp->bhnp", weights, inputs))


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_cumulative_softmax_splits_anywhere_and_stays_finite(scale: float):
    stage, x = build("oscillation", "softmax").double(), scale * example(dtype=torch.float64)
    whole = call(stage, x)[0]
    first, past = call(stage, x[:, :3])
    second, _ = call(stage, x[:, 3:], past)
    for name, value in whole.tensors().items():
        torch.testing.assert_close(torch.cat([getattr(first, name), getattr(second, name)], 1), value)
        assert value.isfinite().all()
    assert stage.state_size() == past[0].numel()


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_cumulative_softmax_of_packed_documents_is_that_of_each_alone(cut: int):
    stage, x = build("oscillation", "softmax").double(), example(dtype=torch.float64)
    ids = [0, 0, 0, 1, 1, 0, 0]
    first, past = call(stage, x[:, :cut], None, documents(ids, 0, cut))
    second, _ = call(stage, x[:, cut:], past, documents(ids, cut))
    packed = torch.cat([first.log(0, cut), second.log(0, LENGTH - cut)], 1)
    alone = [call(stage, x[:, a:b])[0].log(0, b - a) for a, b in ((0, 3), (3, 5), (5, 7))]
    torch.testing.assert_close(packed, torch.cat(alone, 1))


def test_cumulative_softmax_gradients_are_correct_with_documents():
    stage, x = build("oscillation", "softmax").double(), example(dtype=torch.float64).requires_grad_()
    context = documents([0, 0, 0, 1, 1, 1, 2])

    def values(x: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        structure = call(stage, x, None, context)[0]
        return structure.log(0, LENGTH), structure.gain

    assert torch.autograd.gradcheck(values, (x, *stage.parameters()))


def test_rotation_turns_by_the_angles_of_type_11_spread_over_the_rows():
    expected = torch.exp(1j * torch.tensor([10000 ** (-2 * j / 4) for j in range(4)]))
    for option in ("rotation", "rotation_learned"):
        found = decay(single(option), example())[0, 0, :, 0]
        torch.testing.assert_close(found, expected.to(torch.complex64))
    assert angles(2, 4, 10000.0)[1, 0].item() == pytest.approx(1e-4)


def test_data_driven_rotation_turns_by_a_projection_in_full_precision():
    stage, x = single("rotation_data"), example()
    with torch.autocast("cpu", torch.bfloat16):
        phase = call(stage, x)[0].phase
    torch.testing.assert_close(phase[:, :, 0, :, 0], x @ stage.projection.weight.T)


def test_complex_decay_has_a_learned_modulus_and_angle():
    stage = single("complex_decay", tau=3)
    expected = torch.sigmoid(stage.logits) ** (1 / 3) * torch.exp(1j * stage.angles)
    torch.testing.assert_close(decay(stage, example())[0, 0, :, 0], expected[0])


def test_selective_state_space_has_the_decays_and_gain_of_mamba():
    stage, x = single("ssm", step_range=[0.001, 0.1]), example()
    step = torch.log1p(torch.exp(x @ stage.reduce.weight.T @ stage.expand_step.weight.T + stage.bias))
    rate = -torch.arange(1.0, 5.0)[:, None].expand(4, 3)
    torch.testing.assert_close(decay(stage, x), torch.exp(torch.einsum("blp,np->blnp", step, rate)))
    torch.testing.assert_close(call(stage, x)[0].gain[:, :, 0, 0], step)


def test_selective_state_space_starts_with_the_given_steps_and_without_them_forgets():
    still = torch.zeros(1, 1, 6)
    steps = call(build("oscillation", "ssm", value_dim=500), still)[0].step
    assert 0.001 <= steps.min() < 0.0015 and 0.07 < steps.max() <= 0.1 + 1e-6
    plain = call(build("oscillation", "ssm_plain"), still)[0]
    torch.testing.assert_close(plain.factor(0, 1)[0, 0, 0, :, 0], 2.0 ** -torch.arange(1.0, 5.0))


def test_selective_state_space_takes_longer_steps_with_dt():
    stage, x = build("oscillation", "ssm"), example()
    twice = call(stage, x, None, Context(dt=torch.full((BATCH, LENGTH), 2.0)))[0]
    torch.testing.assert_close(twice.log(0, LENGTH), 2 * call(stage, x)[0].log(0, LENGTH))


@pytest.mark.parametrize("option", ["dense", "dense_data"])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_dense_never_grows_the_memory_whatever_its_parameters(option: str, scale: float):
    stage = build("oscillation", option).double()
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter.mul_(scale)
    with torch.autocast("cpu", torch.bfloat16):
        matrix = call(stage, example(dtype=torch.float64))[0].matrix
    assert torch.linalg.matrix_norm(matrix, 2).max() <= 1 + 1e-6
    torch.testing.assert_close(matrix.mT @ matrix, torch.diag_embed(matrix.square().sum(-2)), atol=1e-6, rtol=0)


def test_dense_mixes_rows_after_decaying_them():
    stage = OrthogonalDecay(6, 1, 4, data_driven=False, tau=16, std=0.1)
    generator = stage.generator - stage.generator.mT
    expected = torch.matrix_exp(generator) @ torch.diag_embed(torch.sigmoid(stage.logits) ** (1 / 16))
    torch.testing.assert_close(call(stage, example())[0].matrix[0, 0], expected)


@pytest.mark.parametrize("option", ["dense", "dense_data"])
def test_dense_stream_takes_one_matrix_exponential(option: str, monkeypatch: pytest.MonkeyPatch):
    stage, x, calls, exponential = build("oscillation", option), example(), [], torch.matrix_exp
    monkeypatch.setattr(torch, "matrix_exp", lambda matrix: calls.append(1) or exponential(matrix))
    with torch.no_grad():
        whole, past = call(stage, x)
        later = [call(stage, x[:, t : t + 1], past)[0].matrix for t in range(LENGTH)]
    assert len(calls) == 1
    torch.testing.assert_close(
        torch.cat(later, 1).expand_as(whole.matrix.expand(-1, LENGTH, -1, -1, -1)),
        whole.matrix.expand(-1, LENGTH, -1, -1, -1),
    )


@pytest.mark.parametrize("option", [option for option in names("oscillation") if option != "softmax"])
def test_oscillations_without_memory_of_their_own_keep_nothing(option: str):
    stage = build("oscillation", option)
    assert call(stage, example())[1] is None and stage.state_size() == 0


@pytest.mark.parametrize(
    ("option", "changes", "text"),
    [
        ("diag", {"tau": 0}, "oscillation.tau=0"),
        ("mixed_a", {"weights": "rows"}, "oscillation.weights='rows'"),
        ("ssm", {"step_range": [0.1, 0.001]}, "oscillation.step_range=[0.1, 0.001]"),
        ("ssm", {"step_range": []}, "oscillation.step_range=[]"),
        ("rotation", {"base": -1.0}, "oscillation.base=-1.0"),
    ],
)
def test_illegal_settings_are_refused_by_name(option: str, changes: dict[str, Any], text: str):
    with pytest.raises(UsageError) as error:
        build("oscillation", option, **changes)
    assert text in str(error.value) and str(error.value).count("\n") <= 2
