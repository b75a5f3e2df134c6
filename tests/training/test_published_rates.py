"""Rates and weight decay of groups of parameters that presets have from their papers and releases."""

from fnmatch import fnmatchcase

import pytest
import torch

from lcsm.models.build import build_model
from lcsm.training.parameter_groups import parameter_groups
from tests.compose import compose

# State space models: what learns at 1e-3 at most, without decay.
SLOW = {
    **dict.fromkeys(
        ("s4", "s4d_inv", "s4d_legs", "s4d_lin", "h3"), ("*mixer.oscillation.*", "*mixer.expand.direction")
    ),
    "s4d_real": ("*mixer.oscillation.*",),
    **dict.fromkeys(("dss_exp", "dss_softmax"), ("*mixer.oscillation.*", "*mixer.shrink.direction")),
    "s5": ("*mixer.oscillation.*", "*mixer.expand.weight"),
    **dict.fromkeys(
        ("ldnn", "ldnn_bidirectional", "ldnn_multihead"),
        ("*mixer.oscillation.*", "*mixer.expand.weight", "*mixer.skip.weight"),
    ),
}
# What they read by, C and D, which learns at the base rate.
READ = {
    **dict.fromkeys(
        ("s4", "s4d_inv", "s4d_legs", "s4d_lin", "s4d_real"), ("*mixer.shrink.direction", "*mixer.skip.weight")
    ),
    "h3": ("*mixer.shrink.direction", "*mixer.skip.weight", "*mixer.input.block.skip"),
    "s5": ("*mixer.shrink.weight", "*mixer.skip.weight"),
    "lru": ("*mixer.shrink.weight", "*mixer.skip.weight"),
}
CONVOLVED = [
    "lcsm",
    "mamba",
    "mamba2",
    "griffin",
    "hawk",
    "hyena",
    "deltanet",
    "gated_deltanet",
    "deltaproduct",
    "kda",
    "gdn2",
    "comba",
    "metala",
]
SIZES = ("model.d_model=64", "model.num_layers=2", "optim.weight_decay=0.1")


def groups(model: str, *words: str) -> dict[str, tuple[float, float]]:
    """The rate and the weight decay of every parameter of a preset, by its name."""
    config = compose(f"model={model}", *SIZES, *words)
    with torch.device("meta"):
        built = parameter_groups(build_model(config, 11), config["optim"])
    return {name: (group["lr"], group["weight_decay"]) for group in built for name in group["parameter_names"]}


def chosen(found: dict[str, tuple[float, float]], *patterns: str) -> set[tuple[float, float]]:
    """The rates and decays of the parameters that fit the patterns, each of which must fit one."""
    matches = [{value for name, value in found.items() if fnmatchcase(name, pattern)} for pattern in patterns]
    assert all(matches)
    return set().union(*matches)


@pytest.mark.parametrize(("base", "slow"), [(1e-2, 1e-3), (3e-4, 3e-4)])
@pytest.mark.parametrize("model", SLOW)
def test_state_space_models_learn_their_system_at_no_more_than_the_published_rate(model: str, base: float, slow: float):
    found = groups(model, f"optim.lr={base}")
    assert chosen(found, *SLOW[model]) == {(slow, 0.0)}
    assert chosen(found, "*mixer.output.*weight") == {(base, 0.1)}


@pytest.mark.parametrize("model", READ)
def test_what_state_space_models_read_by_learns_and_decays_as_their_matrices(model: str):
    assert chosen(groups(model, "optim.lr=1e-2"), *READ[model]) == {(1e-2, 0.1)}


@pytest.mark.parametrize("model", ["ldnn", "ldnn_bidirectional", "ldnn_multihead"])
def test_what_ldnn_reads_by_learns_at_the_base_rate_and_does_not_decay(model: str):
    assert chosen(groups(model, "optim.lr=1e-2"), "*mixer.shrink.weight") == {(1e-2, 0.0)}


@pytest.mark.parametrize("base", [1e-2, 3e-4])
def test_the_recurrence_of_lru_learns_at_a_quarter_of_the_base_rate(base: float):
    found = groups("lru", f"optim.lr={base}")
    assert chosen(found, "*mixer.oscillation.*", "*mixer.expand.weight") == {(base / 4, 0.0)}


@pytest.mark.parametrize("base", [1e-2, 3e-4])
def test_the_filters_of_hyena_have_the_rates_of_its_code(base: float):
    found = groups("hyena", f"optim.lr={base}")
    assert chosen(found, "*mixer.shrink.*.weight") == {(1e-3, 0.0)}
    assert chosen(found, "*mixer.shrink.*positions") == {(1e-5, 0.0)}


@pytest.mark.parametrize("model", ["s4", "dss_exp", "s5", "ldnn", "lru", "h3"])
def test_the_command_line_wins_over_a_published_rate(model: str):
    found = groups(model, "optim.lr=1e-2", "optim.groups.oscillation.lr=5e-4")
    assert chosen(found, "*mixer.oscillation.*") == {(5e-4, 0.0)}


@pytest.mark.parametrize(
    ("model", "decays"),
    [
        *((model, "*oscillation.log_rate") for model in ("rwkv4", "rwkv5", "rwkv6")),
        ("rwkv7", "*oscillation.log_decay.offset"),
    ],
)
def test_decays_of_rwkv_learn_at_twice_the_base_rate(model: str, decays: str):
    found = groups(model, "optim.lr=1e-3")
    assert chosen(found, decays) == {(2e-3, 0.0)}
    twice = {name for name, (rate, _) in found.items() if rate == 2e-3}
    assert all(fnmatchcase(name, decays) for name in twice)


def test_the_bonus_of_rwkv4_learns_at_three_times_the_base_rate():
    assert chosen(groups("rwkv4", "optim.lr=1e-3"), "*shrink.bonus") == {(3 * 1e-3, 0.0)}


@pytest.mark.parametrize(
    ("model", "maps"),
    [
        ("rwkv6", ("*source.reduce", "*source.extend", "*oscillation.reduce_rate.*", "*oscillation.expand_rate.*")),
        ("rwkv7", ("*source.reduce.weight", "*oscillation.*.reduce.*", "*oscillation.*.extend.*", "*output.gate.*")),
        ("rwkv7", ("*input.share.reduce.*", "*input.share.extend.*")),
    ],
)
def test_low_rank_maps_of_rwkv_do_not_decay(model: str, maps: tuple[str, ...]):
    found = groups(model, "optim.lr=1e-3")
    assert chosen(found, *maps) == {(1e-3, 0.0)}
    assert chosen(found, "*mixer.expand.*weight", "*mixer.output.project.weight") == {(1e-3, 0.1)}


@pytest.mark.parametrize("model", CONVOLVED)
def test_taps_of_short_convolutions_decay_and_their_biases_do_not(model: str):
    found = groups(model, "optim.lr=1e-3")
    assert chosen(found, "*convolution.weight") == {(1e-3, 0.1)}
    assert {decay for name, (_, decay) in found.items() if name.endswith("convolution.bias")} <= {0.0}
