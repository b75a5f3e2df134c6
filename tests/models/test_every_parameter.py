"""Every parameter of a model receives a gradient: one that does not stops training on several processes."""

import pytest
import torch

from lcsm.models.build import build_model
from tests.compose import compose, options, small

READERS = ("input", "expand", "oscillation", "shrink", "gate")
# every reader has a share in each of these
FULL = [f"source.mix.{reader}=[1.0,0.0]" for reader in READERS]
SIZES = ("model.num_layers=2", "mixer.num_heads=2", "mixer.value_dim=4")
ALGORITHM = "mixer.algorithm=reference"
FOLLOWING = ("input=linear", "expand=data_driven", "oscillation=diag", "shrink=data_driven")
CONSTANT = ("input=linear", "expand=learned", "oscillation=learned", "shrink=learned")


def without_gradient(*words: str) -> list[str]:
    """The parameters of a model that the loss does not depend on."""
    model = build_model(compose(*small(*SIZES, *words)), vocab_size=16)
    logits, _ = model(torch.randint(16, (2, 9)))
    logits.square().sum().backward()
    return [name for name, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("stages", [FOLLOWING, CONSTANT], ids=["following", "constant"])
@pytest.mark.parametrize("gate", ["none", "silu"])
@pytest.mark.parametrize("source", [source for source in options("source") if source != "hyena"])
def test_no_source_has_parameters_that_nothing_uses(source: str, gate: str, stages: tuple[str, ...]):
    assert without_gradient(f"source={source}", f"mixer.output.gate={gate}", *stages) == []


@pytest.mark.parametrize("source", ["rwkv4", "rwkv6"])
@pytest.mark.parametrize("index,reader", [*enumerate(READERS)][1:4])
def test_a_constant_stage_leaves_no_share_behind(source: str, index: int, reader: str):
    stages = [*FOLLOWING[:index], CONSTANT[index], *FOLLOWING[index + 1 :]]
    words = [f"source={source}", "mixer.output.gate=silu", *stages, *FULL]
    model = build_model(compose(*small(*SIZES, *words)), vocab_size=16)
    assert {*model.backbone.layers[0].mixer.source.shares} == {*READERS} - {reader}
    assert without_gradient(*words) == []


@pytest.mark.slow
@pytest.mark.parametrize("group", READERS[:4])
def test_no_option_of_a_stage_leaves_a_share_without_gradient(group: str):
    legal = 0
    for option in options(group):
        words = [word for word in FOLLOWING if not word.startswith(group)]
        try:
            found = without_gradient(
                "source=rwkv6", "mixer.output.gate=silu", *words, f"{group}={option}", *FULL, ALGORITHM
            )
        except ValueError:
            # stages that do not go together
            continue
        assert found == [], option
        legal += 1
    assert legal >= {"input": 3, "expand": 10, "oscillation": 30, "shrink": 8}[group]
