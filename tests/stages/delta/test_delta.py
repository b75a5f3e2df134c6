"""The stages of the delta rule against their formulas, written again in a few lines."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lcsm.errors import UsageError
from lcsm.inspection import decay_spectrum, mixing_matrix
from lcsm.mixers.eos import EosMixer
from lcsm.models.build import Builder, build_model
from lcsm.structures import Context, Delta
from tests.compose import compose, small
from tests.stages.options import BATCH, LENGTH, build, call, example

KEYED = ("delta_rule", "gated_delta_rule", "comba", "kda", "kda_bounded")


def mixer(*words: str) -> EosMixer:
    config = compose(*small(*words))
    found = Builder(config).mixer(config, 0, "layer").double()
    assert isinstance(found, EosMixer)
    return found


def unit_key(rows: int = LENGTH) -> Tensor:
    return F.normalize(torch.randn(BATCH, rows, 2, 4, 1), dim=3)


def transitions(structure: Any) -> Tensor:
    """The matrix of every step, [B L H N N]: what the identity becomes."""
    one = torch.eye(4).expand(BATCH, 2, 4, 4)
    steps = structure.right.shape[1]
    return torch.stack([structure.advance(one, t) for t in range(steps)], 1)


@pytest.mark.parametrize("option", KEYED)
def test_transition_is_the_decay_and_then_the_erased_key(option: str):
    stage, x, key = build("oscillation", option), 3 * example(), unit_key()
    structure = stage(x, key)[0]
    share = stage.inner_logit.sigmoid() if option == "comba" else torch.ones(2)
    beta = torch.sigmoid(x @ stage.project.weight.T)
    erase = torch.eye(4) - (beta * share)[..., None, None] * key @ key.mT
    decay = torch.diag_embed(structure.log(0, LENGTH).exp()[..., 0].expand(-1, -1, -1, 4))
    torch.testing.assert_close(transitions(structure), erase @ decay, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(structure.gain[..., 0, 0], beta)


@pytest.mark.parametrize(("option", "count"), [("gated_delta_rule", 1), ("kda", 4)])
def test_log_decay_is_minus_rate_times_softplus(option: str, count: int):
    stage, x = build("oscillation", option), example()
    forget = stage.forget
    reduced = x if count == 1 else x @ forget.reduce.weight.T
    logits = (reduced @ forget.project.weight.T + forget.bias).view(BATCH, LENGTH, 2, count, 1)
    expected = -forget.log_rate.exp()[:, None, None] * F.softplus(logits)
    torch.testing.assert_close(stage(x, unit_key())[0].log_decay, expected)
    assert stage.decay == ("LH" if count == 1 else "LHN")


def test_bounded_gate_stays_above_its_bound_and_an_unbounded_one_does_not():
    x, key = 100 * example(), unit_key()
    assert build("oscillation", "kda_bounded")(x, key)[0].log_decay.min() >= -5
    assert build("oscillation", "kda")(x, key)[0].log_decay.min() < -80


def test_gate_starts_at_the_rates_and_steps_of_its_ranges():
    stage = build("oscillation", "gated_delta_rule", num_heads=64)
    rates, steps = stage.forget.log_rate.exp(), F.softplus(stage.forget.bias)
    assert rates.min() >= 0.01 and 12 < rates.max() <= 16
    assert steps.min() >= 0.00099 and 0.03 < steps.max() <= 0.1001


@pytest.mark.parametrize("option", [*KEYED, "gdn2"])
def test_no_transition_lengthens_a_memory_by_much(option: str):
    stage = build("oscillation", option)
    structure = stage(30 * example(), unit_key())[0]
    longest = torch.linalg.matrix_norm(transitions(structure), 2).max()
    # a gate per row tilts what is erased against the key: the norm may pass one by a little
    assert longest <= (1.3 if option == "gdn2" else 1 + 1e-5)


def test_gated_erase_and_write():
    stage, x, key = build("oscillation", "gdn2"), example(), unit_key()
    structure = stage(x, key)[0]
    erase = torch.sigmoid(x @ stage.erase.weight.T).view(BATCH, LENGTH, 2, 4, 1)
    decay = torch.diag_embed(structure.log_decay.exp()[..., 0])
    torch.testing.assert_close(transitions(structure), (torch.eye(4) - key @ (erase * key).mT) @ decay)
    torch.testing.assert_close(structure.gain.flatten(2), torch.sigmoid(x @ stage.write.weight.T))


def test_decay_of_several_substeps_acts_before_the_first():
    stage, x = build("oscillation", "delta_product"), example()
    structure = stage(x, unit_key(2 * LENGTH))[0]
    log_decay = structure.log_decay.unflatten(1, (LENGTH, 2))
    assert (log_decay[:, :, 1] == 0).all() and (log_decay[:, :, 0] < 0).all()
    assert structure.beta.shape == (BATCH, 2 * LENGTH, 2, 1, 1) and structure.beta.max() > 1


def test_key_and_query_have_length_one_and_state_dim_to_the_minus_half():
    # epsilon shortens the rows; here by less than single precision shows
    key, _ = build("expand", "key", substeps=1, epsilon=1e-12)(example())
    query, _ = build("shrink", "query", rolls=None, num_groups=None, epsilon=1e-12)(example())
    torch.testing.assert_close(key.square().sum(3), torch.ones(BATCH, LENGTH, 2, 1))
    torch.testing.assert_close(query.square().sum(3), torch.full((BATCH, LENGTH, 2, 1), 1 / 4))


def test_rolled_key_is_the_parameter_free_projection():
    stage, x = build("expand", "key_rolled", substeps=1, rolls=1), example()
    channels = (x @ stage.project.projection.weight.T).view(BATCH, LENGTH, 2, 2)
    parts = torch.cat([channels.relu(), (-channels).relu()], -1)
    expected = torch.stack([parts[..., n] * parts[..., n - 1] for n in range(4)], -1)
    expected = expected / (expected.sum(-1, keepdim=True) + 1e-6)
    torch.testing.assert_close(stage(x)[0][..., 0], expected)


def test_heads_of_a_group_share_their_key():
    key, _ = build("expand", "key", substeps=1, num_groups=1)(example())
    assert key.shape == (BATCH, LENGTH, 2, 4, 1) and (key[:, :, 0] == key[:, :, 1]).all()


def test_delta_rule_with_its_key_runs_in_the_tied_form():
    layer, x = mixer("model=deltanet"), torch.randn(2, 5, 8, dtype=torch.float64)
    expand, _ = layer.expand(x)
    structure, _ = layer.oscillation(x, expand)
    assert isinstance(structure, Delta) and structure.left is structure.apply_gain(torch.ones(2, 5, 2, 4), expand)[1]


def test_corrected_query_reads_less_of_the_current_key():
    layer, x = mixer("model=comba", "shrink.correction=0.25"), torch.randn(2, 5, 8, dtype=torch.float64)
    query, key = layer.shrink.vector(x)[0], layer.expand(x)[0]
    torch.testing.assert_close(layer.shrink(x, key)[0], query - 0.25 * key / 2)
    plain = mixer("model=comba", "shrink=query")
    plain.load_state_dict({name: value for name, value in layer.state_dict().items() if "correction" not in name})
    layer.shrink.correction.data.zero_()
    torch.testing.assert_close(layer(x)[0], plain(x)[0])


@pytest.mark.parametrize("substeps", [1, 3])
def test_writing_several_times_with_strength_zero_changes_nothing(substeps: int):
    layer = mixer("model=deltaproduct", f"oscillation.substeps={substeps}")
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    layer.oscillation.project.weight.data.zero_()
    layer.oscillation.largest_beta = 0.0
    assert layer.recurrence.spec.substeps == substeps and layer(x)[0].abs().max() == 0


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("oscillation=delta_product",), "input=value"),
        (("model=deltaproduct", "mixer.skip.of=inputs"), r"skip\.of=none"),
        (("model=deltaproduct", "expand.substeps=1"), "expand=key"),
        (("model=deltaproduct", "shrink=query_corrected"), "shrink=query"),
        (("oscillation=delta_rule", "oscillation.largest_beta=3"), "use 1 or 2"),
        (("oscillation=kda", "oscillation.lower_bound=1"), "below 0"),
        (("oscillation=kda", "oscillation.rate_range=[2,1]"), "smallest <= largest"),
        (("oscillation=delta_rule", "oscillation.rank=7"), "set oscillation.rank=null"),
        (("oscillation=delta_rule", "oscillation.lower_bound=-5"), "set oscillation.lower_bound=null"),
        (("model=gdn2", "normaliser=denominator"), "gain"),
        (("model=fwp", "mixer.state_dim=5"), "multiple of 2"),
        (("model=deltanet", "expand.num_groups=3"), "num_groups"),
    ],
)
def test_settings_that_cannot_work_are_refused(words: tuple[str, ...], rule: str):
    with pytest.raises(UsageError, match=rule):
        mixer(*words)


def test_rwkv7_layer_is_its_published_formula():
    layer, x = mixer("model=rwkv7"), torch.randn(1, 7, 8, dtype=torch.float64)
    source, osc, shrink = layer.source, layer.oscillation, layer.shrink
    for weight in (osc.log_decay, osc.rate):
        torch.nn.init.normal_(weight.reduce.weight)
    shifted = F.pad(x, (0, 0, 1, 0))[:, :-1]
    m = {name: shifted + (x - shifted) * share for name, share in source.shares.items()}
    r, k, v = shrink.projection(m["shrink"]), layer.expand.projection(m["expand"]), layer.input.projection(m["input"])
    w = torch.exp(-math.exp(-0.5) * torch.sigmoid(osc.log_decay(m["decay"])))
    a = torch.sigmoid(osc.rate(m["rate"]))
    kk = F.normalize((k * osc.scale.flatten()).unflatten(-1, (2, 4)), dim=-1)
    k = k * (1 + (a - 1) * osc.mix.flatten())
    r, k, v, w, a = (value.unflatten(-1, (2, 4)) for value in (r, k, v, w, a))
    memory, reads = torch.zeros(1, 2, 4, 4, dtype=torch.float64), []
    for t in range(7):
        removed = (kk[:, t, :, :, None] * memory).sum(2, keepdim=True)
        memory = w[:, t, :, :, None] * memory - (kk * a)[:, t, :, :, None] * removed
        memory = memory + k[:, t, :, :, None] * v[:, t, :, None]
        reads.append((r[:, t, :, :, None] * memory).sum(2))
    reads = F.group_norm(torch.stack(reads, 1).flatten(0, 1).flatten(1), 2, eps=6.4e-4).view(1, 7, 2, 4)
    reads = reads + (r * k * shrink.bonus).sum(-1, keepdim=True) * v
    gate = layer.output.gate(torch.sigmoid(source.reduce(m["gate"])))
    torch.testing.assert_close(layer(x)[0], layer.output.project(reads.flatten(2) * gate), rtol=1e-10, atol=1e-12)


def test_later_layers_mix_their_value_with_the_first_ones():
    model = build_model(compose(*small("model=rwkv7", "model.num_layers=2")), 16)
    values = [block.mixer.input for block in model.backbone.layers]
    shared: dict[str, Tensor] = {}
    first, second = (
        value(torch.ones(1, 3, 8) * (n + 1), None, Context(shared=shared))[0] for n, value in enumerate(values)
    )
    share = torch.sigmoid(values[1].share.offset)
    own = values[1].projection(torch.full((1, 3, 8), 2.0))
    torch.testing.assert_close(second.flatten(2), own + share * (first.flatten(2) - own))
    assert values[0].share is None


def test_value_residual_streams_and_stays_within_a_call():
    model = build_model(compose(*small("model=rwkv7", "model.num_layers=2")), 16).double()
    tokens = torch.randint(16, (2, 9))
    whole, _ = model(tokens)
    state, parts = model.initial_state(), []
    for span in (slice(0, 4), slice(4, 5), slice(5, 9)):
        logits, state = model(tokens[:, span], state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-8, atol=1e-10)


def test_figures_show_every_write_of_a_token_and_the_eigenvalues_of_a_step():
    model, tokens = build_model(compose(*small("model=deltaproduct")), 16), torch.randint(16, (1, 9))
    matrix = mixing_matrix(model, 0, tokens)
    assert matrix.shape == (9, 9) and abs(matrix[0]).sum() == abs(matrix[0, 0]) > 0
    ((_, moduli),) = decay_spectrum(model, tokens)
    # sixteen steps of two heads with four rows; keys of length one and betas below two
    assert moduli.size == 16 * 2 * 4 and moduli.max() <= 1 + 1e-6 and moduli.min() < 0.95


def test_call_of_the_options_takes_any_expand():
    structure, _ = call(build("oscillation", "delta_rule"), example())
    assert structure.left.shape == (1, 1, 1, 4, 1)


def test_the_first_layer_with_a_value_residual_has_nothing_to_mix_with():
    words = ("model=rwkv7", "+mixer@mixers.attention.mixer=attention", "model.pattern=[attention,main]")
    model = build_model(compose(*words, "model.d_model=16", "model.num_layers=4"), 7)
    shares = [mixer.input.share for mixer in model.backbone.mixers()[1::2]]
    assert shares[0] is None and shares[1] is not None
