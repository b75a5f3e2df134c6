"""Initial values of gated models against what their papers and releases publish."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lcsm.models.build import build_model
from lcsm.models.language_model import LanguageModel
from tests.compose import compose

WIDTH = 32


def built(name: str, *words: str) -> LanguageModel:
    return build_model(compose(f"model={name}", f"model.d_model={WIDTH}", "model.num_layers=3", *words), 11)


def mixer(name: str, layer: int = 0, *words: str):
    return built(name, *words).backbone.mixers()[layer]


def test_mamba_starts_at_s4d_real_with_its_step_sizes_and_skip():
    found = mixer("mamba")
    rates, steps = found.oscillation.log_rate.exp(), F.softplus(found.oscillation.bias)
    torch.testing.assert_close(rates, torch.arange(1.0, 17)[None, :, None].expand_as(rates))
    assert steps.min() >= 9.9e-4 and 0.05 < steps.max() <= 0.1001
    rank = found.oscillation.reduce.weight.shape[0]
    assert rank == math.ceil(WIDTH / 16)
    assert 0.9 * rank**-0.5 < found.oscillation.expand_step.weight.abs().max() <= rank**-0.5
    assert torch.equal(found.skip.weight, torch.ones(2 * WIDTH))


def test_the_bonus_of_rwkv4_is_log_0_3_and_a_zigzag():
    expected = [math.log(0.3) + 0.5 * ((channel + 1) % 3 - 1) for channel in range(WIDTH)]
    torch.testing.assert_close(mixer("rwkv4").shrink.bonus, torch.tensor(expected))


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_decays_of_rwkv7_start_as_in_its_release(layer: int):
    found, depth = mixer("rwkv7", layer, "mixer.num_heads=2", "mixer.state_dim=16"), layer / 2
    structure = found.oscillation(torch.zeros(1, 1, 2 * WIDTH), torch.ones(1, 1, 2, 16, 1))[0]
    along = torch.arange(WIDTH) / (WIDTH - 1)
    row = (torch.arange(WIDTH) % 16 - 7.5) / 7.5
    logits = -6 + 6 * along ** (1 + depth**0.3) + 0.5 + 2.5 * row * row.abs()
    expected = -math.exp(-0.5) * torch.sigmoid(logits)
    torch.testing.assert_close(structure.log_decay.flatten(), expected)


def test_the_angles_of_hgrn_fall_from_one_over_the_channels():
    expected = 10000.0 ** (-2 * torch.arange(WIDTH) / WIDTH)
    torch.testing.assert_close(mixer("hgrn_complex").oscillation.angles.flatten(), expected)


def rates_and_biases(name: str) -> tuple[Tensor, Tensor]:
    gate = mixer(name, 0, "mixer.num_heads=16", "mixer.state_dim=2").oscillation.forget
    return gate.log_rate.exp(), gate.bias


def test_delta_rules_with_a_decay_per_row_start_with_rates_from_1_to_16():
    for name in ("kda", "gdn2"):
        rates, _ = rates_and_biases(name)
        assert rates.min() >= 1 and 10 < rates.max() <= 16
    for name in ("kda", "gdn2", "gated_deltanet"):
        steps = F.softplus(rates_and_biases(name)[1])
        assert steps.min() >= 9.9e-4 and steps.max() <= 0.1001


def test_bounded_decays_of_kimi_delta_attention_start_near_one():
    gate = mixer("kda", 0, "oscillation=kda_bounded").oscillation.forget
    assert torch.equal(gate.log_rate, torch.zeros_like(gate.log_rate)) and gate.bias.max() < -2


def test_channel_mixing_of_rwkv7_has_no_gate_and_shares_that_fall_with_the_fourth_power_of_depth():
    channel = built("rwkv7").backbone.layers[1].channel
    assert channel.gate is None
    expected = (torch.arange(WIDTH) / WIDTH) ** (2 / 3) ** 4
    torch.testing.assert_close(channel.shares["key"], expected)


def test_the_decay_of_gla_starts_near_one_half_to_the_sixteenth():
    # a linear map with a small bias, of rank 16
    found = mixer("gla")
    log_decay = found.oscillation(torch.zeros(1, 1, WIDTH), torch.ones(1, 1, 1, 1, 1))[0].log_decay
    assert float(log_decay.detach().mean()) == pytest.approx(-math.log(2) / 16, rel=0.2)


@pytest.mark.parametrize(
    ("name", "expected"), [("rwkv7", {"log_decay.offset", "rate.offset"}), ("hawk", {"gate.bias", "rate"})]
)
def test_offsets_of_decays_learn_as_the_group_oscillation_and_matrices_do_not(name: str, expected: set[str]):
    parameters = dict(mixer(name).oscillation.named_parameters())
    marked = {key for key, value in parameters.items() if getattr(value, "_lr_group", None) == "oscillation"}
    assert marked == expected and all(parameters[key]._no_decay for key in marked)


def rolled(weight: Tensor, x: Tensor) -> Tensor:
    """The features of Fast Weight Programmers for two heads, with a sum of one."""
    value = (x @ weight.T).unflatten(-1, (2, -1))
    parts = torch.cat([value.relu(), (-value).relu()], -1)
    products = parts * parts.roll(1, -1)
    return products / (products.sum(-1, keepdim=True) + 1e-6)


def test_fwp_is_the_delta_rule_of_its_features():
    found = mixer("fwp", 0, "mixer.num_heads=2", "mixer.state_dim=8").double()
    found.output.project, x = None, torch.randn(2, 9, WIDTH, dtype=torch.float64)
    key, query = (rolled(stage.project.projection.weight, x) for stage in (found.expand, found.shrink))
    value = (x @ found.input.project.projection.weight.T).unflatten(-1, (2, -1))
    beta = torch.sigmoid(x @ found.oscillation.project.weight.T)[..., None]
    memory, outputs = torch.zeros(2, 2, 8, value.shape[-1], dtype=torch.float64), []
    for t in range(9):
        old = torch.einsum("bhnp,bhn->bhp", memory, key[:, t])
        memory = memory + torch.einsum("bhn,bhp->bhnp", key[:, t], beta[:, t] * (value[:, t] - old))
        outputs.append(torch.einsum("bhnp,bhn->bhp", memory, query[:, t]))
    torch.testing.assert_close(found(x)[0], torch.stack(outputs, 1).flatten(2))
