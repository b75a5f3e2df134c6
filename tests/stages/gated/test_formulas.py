"""Named models against the formulas of their papers, written out token by token or as sums over all pairs."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lcsm.mixers.eos import EosMixer
from tests.stages.gated.presets import model_of

B, L, D = 2, 9, 16


def mixer_of(name: str, *overrides: str) -> tuple[Any, Tensor]:
    """The first mixer of a preset without output projection, and what it reads."""
    mixer = model_of(name, *overrides).backbone.mixers()[0]
    assert isinstance(mixer, EosMixer)
    mixer.output.project = None
    return mixer, torch.randn(B, L, D, dtype=torch.float64)


def heads(projection: Any, x: Tensor, num_heads: int) -> Tensor:
    return projection(x).unflatten(-1, (num_heads, -1))


def lags() -> tuple[Tensor, Tensor]:
    """t - s for all pairs, and where it is not negative."""
    lag = torch.arange(L)[:, None] - torch.arange(L)
    return lag, lag >= 0


def test_linear_attention_divides_by_the_sum_of_its_weights():
    mixer, x = mixer_of("linear_attention")
    key, query = (1 + F.elu(heads(stage.projection, x, 4)) for stage in (mixer.expand, mixer.shrink))
    weights = torch.einsum("bthn,bshn->bhts", query, key).tril()
    expected = torch.einsum("bhts,bshp->bthp", weights, heads(mixer.input.projection, x, 4))
    expected = expected / (weights.sum(-1).mT[..., None] + 1e-6)
    torch.testing.assert_close(mixer(x)[0], expected.flatten(2))


def test_cosformer_weighs_by_the_cosine_of_the_lag():
    mixer, x = mixer_of("cosformer", "oscillation.length=12")
    key, query = (F.relu(heads(stage.projection, x, 4)) for stage in (mixer.expand, mixer.shrink))
    lag, seen = lags()
    weights = torch.einsum("bthn,bshn->bhts", query, key) * (math.pi * lag / 24).cos() * seen
    total = weights.sum(-1).mT[..., None].clamp_min(1e-6)
    expected = torch.einsum("bhts,bshp->bthp", weights, heads(mixer.input.projection, x, 4)) / total
    torch.testing.assert_close(mixer(x)[0], expected.flatten(2))


def test_retnet_decays_and_turns_queries_and_keys():
    mixer, x = mixer_of(
        "retnet", "mixer.output.gate=none", "normaliser=identity", "model.d_model=16", "mixer.value_dim=4"
    )
    position = torch.arange(L)[:, None, None] * 10000.0 ** (-torch.arange(2) / 2)
    turned = []
    for stage in (mixer.expand, mixer.shrink):
        real, imaginary = heads(stage.projection, x, 4).unflatten(-1, (2, 2)).unbind(-1)
        cos, sin = position.cos(), position.sin()
        turned.append(torch.cat([real * cos - imaginary * sin, real * sin + imaginary * cos], -1))
    lag, seen = lags()
    decay = (1 - 2.0 ** (-5 - torch.arange(4.0, dtype=torch.float64)))[:, None, None] ** lag * seen
    weights = torch.einsum("bthn,bshn->bhts", turned[1], turned[0]) * decay / 2
    expected = torch.einsum("bhts,bshp->bthp", weights, heads(mixer.input.projection, x, 4))
    torch.testing.assert_close(mixer(x)[0], expected.flatten(2), rtol=1e-5, atol=1e-6)


def test_gateloop_reads_the_real_part_of_a_memory_that_turns_with_the_tokens():
    mixer, x = mixer_of("gateloop", "mixer.output.gate=none")
    stage, memory = mixer.oscillation, torch.zeros(B, 4, 4, 4, dtype=torch.complex128)
    key, query, value = (heads(part.projection, x, 4) for part in (mixer.expand, mixer.shrink, mixer.input))
    decay = torch.polar(heads(stage.projections[0], x, 4).sigmoid(), heads(stage.turn, x, 4))
    outputs = mixer(x)[0].unflatten(-1, (4, 4))
    for t in range(L):
        memory = decay[:, t, ..., None] * memory + key[:, t, ..., None] * value[:, t, :, None]
        torch.testing.assert_close(outputs[:, t], (query[:, t, ..., None] * memory).sum(2).real)


def test_rwkv4_is_a_weighted_mean_with_a_bonus_for_the_current_token():
    mixer, x = mixer_of("rwkv4")
    seen = mixer.source(x)[0]
    key, value = mixer.oscillation.projection(seen["oscillation"]), mixer.input.projection(seen["input"])
    rate, bonus = mixer.oscillation.log_rate.exp().flatten(), mixer.shrink.bonus
    lag, past = lags()
    exponent = key[:, None] - (lag[..., None] - 1) * rate
    exponent = torch.where((lag == 0)[..., None], key[:, None] + bonus, exponent)
    weights = exponent.exp() * past[..., None]
    expected = (weights * value[:, None]).sum(2) / weights.sum(2)
    torch.testing.assert_close(mixer(x)[0], expected * mixer.output.gate(seen["gate"]).sigmoid())


def test_rwkv5_reads_before_the_decay_and_weighs_the_current_token_by_its_bonus():
    mixer, x = mixer_of("rwkv5", "mixer.output.gate=none", "normaliser=identity")
    seen, memory = mixer.source(x)[0], torch.zeros(B, 4, 4, 4, dtype=torch.float64)
    parts = ((mixer.expand, "expand"), (mixer.shrink, "shrink"), (mixer.input, "input"))
    key, query, value = (heads(stage.projection, seen[name], 4) for stage, name in parts)
    decay, outputs = (-mixer.oscillation.log_rate.exp()).exp(), mixer(x)[0].unflatten(-1, (4, 4))
    for t in range(L):
        write = key[:, t, ..., None] * value[:, t, :, None]
        read = (query[:, t, ..., None] * (memory + mixer.shrink.bonus[..., None] * write)).sum(2)
        torch.testing.assert_close(outputs[:, t], read)
        memory = decay * memory + write


def test_metala_writes_the_complement_and_reads_the_current_token_once_more():
    mixer, x = mixer_of("metala", "mixer.output.gate=none", "normaliser=identity")
    seen, memory = mixer.source(x)[0]["input"], torch.zeros(B, 4, 2, 4, dtype=torch.float64)
    query, value = heads(mixer.shrink.projection, seen, 4) * 2**-0.5, heads(mixer.input.projection, seen, 4)
    decay = heads(mixer.oscillation.projections[0], seen, 4).sigmoid() ** (1 / 16)
    outputs = mixer(x)[0].unflatten(-1, (4, 4))
    for t in range(L):
        memory = decay[:, t, ..., None] * memory + (1 - decay[:, t, ..., None]) * value[:, t, :, None]
        again = (query[:, t] * (1 - decay[:, t]) * mixer.shrink.bonus).sum(-1, keepdim=True) * value[:, t]
        torch.testing.assert_close(outputs[:, t], (query[:, t, ..., None] * memory).sum(2) + again.sigmoid())


def test_lightnet_reads_softmax_weighted_means_over_time():
    mixer, x = mixer_of("lightnet", "mixer.output.gate=none", "mixer.output.gate_rank=null", "normaliser=identity")
    logits, value = heads(mixer.oscillation.projection, x, 4), heads(mixer.input.projection, x, 4)
    query = F.silu(heads(mixer.shrink.projection, x, 4)) / 2
    outputs = mixer(x)[0].unflatten(-1, (4, 4))
    for t in range(L):
        mean = torch.einsum("bshn,bshp->bhnp", logits[:, : t + 1].softmax(1), value[:, : t + 1])
        torch.testing.assert_close(outputs[:, t], torch.einsum("bhn,bhnp->bhp", query[:, t], mean))


def test_mlstm_divides_by_its_normaliser_and_by_one_at_least():
    mixer, x = mixer_of(
        "mlstm", "mixer.output.gate=none", "normaliser=denominator_bounded", "oscillation.soft_cap=null"
    )
    stage = mixer.oscillation
    stage.project_input.bias.data.fill_(0.5)
    key, query, value = (heads(part.projection, x, 4) for part in (mixer.expand, mixer.shrink, mixer.input))
    forget, weight = stage.project_forget(x).sigmoid(), stage.project_input(x).exp()
    memory = torch.zeros(B, 4, 2, 5, dtype=torch.float64)
    outputs = mixer(x)[0].unflatten(-1, (4, 4))
    for t in range(L):
        columns = torch.cat([value[:, t], torch.ones(B, 4, 1, dtype=torch.float64)], -1)
        write = weight[:, t, :, None, None] * key[:, t, ..., None] * columns[:, :, None]
        memory = forget[:, t, :, None, None] * memory + write
        read = (query[:, t, ..., None] * memory).sum(2) * 2**-0.5
        expected = read[..., :4] / read[..., 4:].abs().clamp_min(1)
        torch.testing.assert_close(outputs[:, t], expected, rtol=1e-4, atol=1e-6)


def test_mamba_discretises_its_rates_with_the_step_of_each_channel():
    mixer, x = mixer_of("mamba", "mixer.output.gate=none", f"mixer.value_dim={D}", f"source.width={D}")
    seen, stage = mixer.source(x)[0]["input"], mixer.oscillation
    step = F.softplus(stage.expand_step(stage.reduce(seen)) + stage.bias)
    write, read = mixer.expand.projection(seen), mixer.shrink.projection(seen)
    memory, outputs = torch.zeros(B, 16, D, dtype=torch.float64), mixer(x)[0]
    for t in range(L):
        decay = (-stage.log_rate[0].exp() * step[:, t, None]).exp()
        memory = decay * memory + write[:, t, :, None] * (step[:, t] * seen[:, t])[:, None]
        expected = (read[:, t, :, None] * memory).sum(1) + mixer.skip.weight * seen[:, t]
        torch.testing.assert_close(outputs[:, t], expected)


def test_lrn_gates_what_it_writes_and_what_it_keeps():
    mixer, x = mixer_of("lrn")
    maps = (mixer.oscillation.projections[0], mixer.expand.projection)
    forget, write = (projection(x).sigmoid() for projection in maps)
    value, memory = mixer.input.projection(x), torch.zeros(B, D, dtype=torch.float64)
    outputs = mixer(x)[0]
    for t in range(L):
        memory = forget[:, t] * memory + write[:, t] * value[:, t]
        torch.testing.assert_close(outputs[:, t], memory.tanh())


def test_mingru_in_log_space_writes_positive_candidates():
    mixer, x = mixer_of("mingru", "input=mingru_log", "mixer.output.gate=none", f"mixer.num_heads={D}")
    keep, value = mixer.oscillation.projections[0](x).sigmoid(), mixer.input.projection(x)
    candidate = torch.where(value >= 0, value + 0.5, value.sigmoid())
    memory, outputs = torch.zeros(B, D, dtype=torch.float64), mixer(x)[0]
    for t in range(L):
        memory = keep[:, t] * memory + (1 - keep[:, t]) * candidate[:, t]
        torch.testing.assert_close(outputs[:, t], memory)


def test_gilr_averages_its_impulses_by_a_gate():
    mixer, x = mixer_of("gilr")
    gate, impulse = mixer.oscillation.projections[0](x).sigmoid(), mixer.input.projection(x).tanh()
    memory, outputs = torch.zeros(B, D, dtype=torch.float64), mixer(x)[0]
    for t in range(L):
        memory = gate[:, t] * memory + (1 - gate[:, t]) * impulse[:, t]
        torch.testing.assert_close(outputs[:, t], memory)
