"""Expands, shrinks, inputs, sources and normalisers of gated and linear-attention models."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lcsm.errors import UsageError
from lcsm.mixers.attention import Attention
from lcsm.mixers.output import Output
from lcsm.models.channel import ShiftedMlp
from lcsm.ops.recurrence import Read
from lcsm.stages.normaliser import LayerNorm
from lcsm.stages.rwkv.token_shift import mixture
from lcsm.structures import Diagonal
from tests.stages.options import BATCH, LENGTH, build, call, documents, example


def test_taylor_features_multiply_to_the_second_order_exponential():
    expand, shrink = (build(group, "based", state_dim=13).double() for group in ("expand", "shrink"))
    x = example(dtype=torch.float64)
    key, query = (stage.projection(x).view(BATCH, LENGTH, 2, 3) for stage in (expand, shrink))
    score = (key * query).sum(-1) / math.sqrt(3)
    product = (expand(x)[0] * shrink(x)[0]).sum(3)[..., 0]
    torch.testing.assert_close(product, 1 + score + score**2 / 2)


def test_taylor_features_refuse_other_numbers_of_rows():
    with pytest.raises(UsageError, match=r"mixer.state_dim=14 is not:\nset mixer.state_dim to 13 or 21"):
        build("expand", "based", state_dim=14)


def test_pairs_turn_by_the_difference_of_positions():
    expand, shrink = (build(group, "rotary").double() for group in ("expand", "shrink"))
    x = example(dtype=torch.float64)
    structure = call(build("oscillation", "rotary"), x)[0]
    lag, angle = 3, structure.phase.double().flatten()
    key, query = (stage.projection(x).view(BATCH, LENGTH, 2, 4, 2) for stage in (expand, shrink))
    cos, sin = (lag * angle).cos(), (lag * angle).sin()
    turned = torch.stack([cos * key[..., 0] - sin * key[..., 1], sin * key[..., 0] + cos * key[..., 1]], -1)
    memory = expand(x)[0][..., 0] * torch.polar(torch.ones_like(angle), lag * angle)
    found = (shrink(x)[0][..., 0] * memory).sum(-1).real
    torch.testing.assert_close(found, (query * turned).sum((-2, -1)) * 8**-0.5)


@pytest.mark.parametrize("group", ["expand", "shrink"])
def test_heads_of_a_group_share_a_direction(group: str):
    x = example()
    one, two = build(group, "mamba2", num_heads=4), build(group, "mamba2", num_heads=4, num_groups=2)
    assert one.varies == "LN" and one(x)[0].shape == (BATCH, LENGTH, 1, 4, 1)
    value = two(x)[0]
    assert torch.equal(value[:, :, 0], value[:, :, 1]) and not torch.equal(value[:, :, 1], value[:, :, 2])
    with pytest.raises(UsageError, match=f"{group}.num_groups=3 must divide mixer.num_heads=4"):
        build(group, "mamba2", num_heads=4, num_groups=3)


def test_projection_is_convolved_before_its_activation():
    stage, x = build("expand", "mamba2", num_heads=1), example()
    expected = F.silu(stage.convolution(stage.projection(x))[0])
    torch.testing.assert_close(stage(x)[0].flatten(2), expected)
    assert stage.state_size() == stage(x)[1][0].numel()


def test_scaled_shrink_is_that_of_softmax_attention():
    plain, scaled, x = build("shrink", "data_driven"), build("shrink", "gla"), example()
    scaled.load_state_dict(plain.state_dict())
    torch.testing.assert_close(scaled(x)[0] * 2, plain(x)[0])


@pytest.mark.parametrize(("power", "offset"), [(1.0, 0.3), (0.5, 0.0)])
def test_shares_of_the_token_shift_start_where_published(power: float, offset: float):
    share = mixture(8, 1, 3, power, offset)
    expected = [(channel / 8) ** (power * (1 - 1 / 3)) + offset * 1 / 2 for channel in range(8)]
    torch.testing.assert_close(share, torch.tensor(expected))


@pytest.mark.parametrize("option", ["rwkv4", "rwkv5", "rwkv6"])
def test_token_shift_mixes_this_token_and_the_last_one(option: str):
    stage, x = build("source", option), example()
    before = F.pad(x[:, :-1], (0, 0, 1, 0))
    found = stage(x)[0]
    for reader in ("input", "expand", "oscillation", "shrink", "gate", "skip"):
        share = stage.shares[reader] if reader in stage.shares else torch.ones(6)
        torch.testing.assert_close(found[reader], share * x + (1 - share) * before)


def test_dynamic_shares_follow_the_tokens():
    stage, x = build("source", "rwkv6"), example()
    torch.nn.init.normal_(stage.reduce)
    before = F.pad(x[:, :-1], (0, 0, 1, 0))
    first = torch.lerp(before, x, stage.first)
    names = list(stage.shares)
    share = stage.shares["input"] + (first @ stage.reduce[names.index("input")].T).tanh() @ (
        stage.extend[names.index("input")].T
    )
    torch.testing.assert_close(stage(x)[0]["input"], torch.lerp(before, x, share))


def test_token_shift_refuses_unknown_readers():
    with pytest.raises(UsageError, match=r"mix.keys=\[1.0, 0.0\] must be a power and an offset of one of input"):
        build("source", "rwkv4", mix={"keys": [1.0, 0.0]})


@pytest.mark.parametrize("cut", [1, 4])
def test_channel_mixing_carries_the_last_token(cut: int):
    channel = ShiftedMlp(6, 1, 3, 2.0, "relu_squared", True, {"key": [1.0, 0.0], "gate": [0.5, 0.1]}).double()
    x, ids = example(dtype=torch.float64), [0, 0, 1, 1, 1, 0, 0]
    first, past = channel(x[:, :cut], None, documents(ids, 0, cut))
    second, _ = channel(x[:, cut:], past, documents(ids, cut))
    alone = torch.cat([channel(x[:, start:stop])[0] for start, stop in ((0, 2), (2, 5), (5, 7))], 1)
    torch.testing.assert_close(torch.cat([first, second], 1), alone)


def test_gated_channels_and_their_blocks():
    stage, x = build("input", "gated_channels", num_heads=6, value_dim=1, blocks=3, bias=True), example()
    weight = torch.block_diag(*stage.gate.weight)
    expected = x * torch.sigmoid(x @ weight.T + stage.gate.bias)
    torch.testing.assert_close(stage(x)[0][..., 0], expected)
    with pytest.raises(UsageError, match=r"input.blocks=4 must divide 6 channels"):
        build("input", "gated_channels", num_heads=6, value_dim=1, blocks=4, bias=True)


def test_bonus_of_rwkv_falls_over_the_rows_and_grows_with_depth():
    first, last = (build("shrink", "rwkv5", layer=layer, num_layers=3).bonus.flatten() for layer in (0, 2))
    zigzag = torch.tensor([0.0, 0.1, -0.1, 0.0, 0.1, -0.1, 0.0, 0.1])
    torch.testing.assert_close(first, zigzag)
    torch.testing.assert_close(last, zigzag + 1 - torch.arange(8) / 7)
    expected = torch.tensor([0.3]).log() + torch.tensor([0.0, 0.5])
    torch.testing.assert_close(build("shrink", "rwkv4").bonus, expected)


@pytest.mark.parametrize("scaled", [False, True])
def test_slots_are_read_by_the_softmax_of_keys_that_were_written_into_them(scaled: bool):
    stage, x = build("shrink", "gsa", key_dim=3, scaled=scaled).double(), example(dtype=torch.float64)
    decay, gain = (torch.rand(BATCH, LENGTH, 2, 4, 1, dtype=torch.float64) for _ in range(2))
    value, past = stage(x, None, Diagonal(log_decay=decay.log(), gain=gain))
    keys = torch.zeros(BATCH, 2, 3, 4, dtype=torch.float64)
    for t in range(LENGTH):
        key, query = (F.silu(layer(x[:, t])).view(BATCH, 2, 3) for layer in (stage.project_key, stage.project_query))
        keys = keys * decay[:, t].mT + key[..., None] * gain[:, t].mT
        expected = (torch.einsum("bhkn,bhk->bhn", keys, query) / (math.sqrt(3) if scaled else 1)).softmax(-1)
        torch.testing.assert_close(value[:, t, ..., 0], expected)
    torch.testing.assert_close(past, keys)


@pytest.mark.parametrize("gain", [None, torch.ones(1, 1, 2, 1, 1)])
def test_slots_refuse_an_oscillation_without_a_gain_per_row(gain: torch.Tensor | None):
    stage = build("shrink", "gsa", key_dim=3)
    with pytest.raises(UsageError, match="use oscillation=gsa"):
        stage(example(), None, Diagonal(log_decay=torch.zeros(1, 1, 1, 1, 1), gain=gain))


@pytest.mark.parametrize(
    ("option", "log_scale", "expected"),
    [("denominator_added", None, 6 / 2.5), ("denominator_bounded", None, 6 / 2.5), ("denominator", None, 3.0)],
)
def test_denominators_follow_their_rule(option: str, log_scale: Any, expected: float):
    stage = build("normaliser", option, epsilon=0.5)
    assert stage(torch.tensor([[[[6.0, 2.0]]]]), log_scale).item() == pytest.approx(expected)


def test_bounded_denominator_counts_in_units_of_the_running_maximum():
    stage = build("normaliser", "denominator_bounded", epsilon=1e-9)
    values, weight, scale = 6.0, -0.1, -1.5
    outputs = torch.tensor([[[[values, weight]]]]) * math.exp(-scale)
    found = stage(outputs, torch.tensor([[[[scale]]]]))
    assert found.item() == pytest.approx(values / max(abs(weight), 1))


def test_mlstm_normaliser_divides_then_normalises_each_head():
    stage, outputs = build("normaliser", "mlstm"), torch.randn(BATCH, LENGTH, 2, 4)
    divided = outputs[..., :3] / (outputs[..., 3:].abs().clamp_min(1) + 1e-6)
    torch.testing.assert_close(stage(outputs), F.layer_norm(divided, (3,), eps=1e-6))


@pytest.mark.parametrize(("groups", "axes"), [(1, 6), ("heads", 3), (2, 3)])
def test_rms_norm_may_take_groups_of_heads(groups: Any, axes: int):
    stage, outputs = build("normaliser", "rms_norm", groups=groups), torch.randn(BATCH, LENGTH, 2, 3)
    grouped = outputs.flatten(2).unflatten(-1, (-1, axes))
    expected = F.rms_norm(grouped, (axes,), eps=1e-5).reshape(outputs.shape)
    torch.testing.assert_close(stage(outputs), expected)
    with pytest.raises(UsageError, match=r"normaliser.groups=3 must divide mixer.num_heads=2"):
        build("normaliser", "rms_norm", groups=3)


def test_gate_of_low_rank_and_norm_after_the_gate():
    norm, outputs, x = LayerNorm(2, 3, True, "weight", 1e-5), torch.randn(2, 3, 2, 3), torch.randn(2, 3, 4)
    output = Output("linear", "tanh", "silu", 2, "after", True, norm, 2, 6, 4, 5)
    gate = F.silu(output.gate[1](output.gate[0](x)))
    expected = output.project(norm((gate * outputs.flatten(2).tanh()).view(2, 3, 2, 3)).flatten(2))
    torch.testing.assert_close(output(Read(outputs), None, x), expected)
    assert output.gate[0].out_features == 2 and output.gate[1].bias is not None and output.project.bias is not None


@pytest.mark.parametrize("window", [1, 3, 20])
def test_window_hides_older_tokens_also_in_a_stream(window: int):
    attention, x = Attention(8, 2, "rotary", 1e4, True, window).double(), torch.randn(2, 9, 8, dtype=torch.float64)
    value = attention.project(x).view(2, 9, 3, 2, 4)[:, :, 2]
    mixed = torch.einsum("bhts,bshp->bthp", attention.weights(x), value).flatten(2)
    expected = attention.output(mixed)
    assert (attention.weights(x).tril(-window) == 0).all()
    torch.testing.assert_close(attention(x)[0], expected)
    state, parts = attention.initial_state(), []
    for start, stop in ((0, 1), (1, 5), (5, 9)):
        outputs, state = attention(x[:, start:stop], state)
        parts.append(outputs)
    torch.testing.assert_close(torch.cat(parts, 1), expected)
    assert state.keys.shape[2] == min(9, window - 1)
