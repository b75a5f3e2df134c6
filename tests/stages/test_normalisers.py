"""Normalisers against torch's own and their formulas."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lcsm.errors import UsageError
from tests.stages.options import BATCH, LENGTH, build

NORMS = ["layer_norm", "group_norm", "rms_norm"]


def outputs(**options: object) -> Tensor:
    return 3 * torch.randn(BATCH, LENGTH, 2, 3, **options) + 1


def test_layer_norm_is_over_all_heads_together():
    module, y = build("normaliser", "layer_norm"), outputs()
    expected = F.layer_norm(y.flatten(2), (6,), module.weight.flatten(), module.bias.flatten()).unflatten(-1, (2, 3))
    torch.testing.assert_close(module(y), expected)


def test_group_norm_is_that_of_torch_with_a_group_per_head():
    module, y = build("normaliser", "group_norm"), outputs()
    torch.nn.init.normal_(module.weight)
    expected = F.group_norm(y.flatten(2).flatten(0, 1), 2, module.weight.flatten(), module.bias.flatten())
    torch.testing.assert_close(module(y), expected.view_as(y))


def test_rms_norm_divides_by_the_root_mean_square_of_all_heads():
    module, y = build("normaliser", "rms_norm"), outputs()
    torch.testing.assert_close(module(y), y / (y.square().mean((-2, -1), keepdim=True) + 1e-5).sqrt())


def test_rms_norm_of_each_head_shares_its_weight():
    module, y = build("normaliser", "rms_norm_heads"), outputs()
    torch.nn.init.normal_(module.weight)
    assert module.weight.shape == (3,)
    torch.testing.assert_close(module(y), F.rms_norm(y, (3,), module.weight, 1e-5))


def test_denominator_divides_by_its_column():
    module, y = build("normaliser", "denominator"), outputs()
    columns = torch.cat([y, torch.ones_like(y[..., :1])], -1)
    scaled = columns * torch.tensor([2.0, -0.5]).view(1, 1, 2, 1)
    torch.testing.assert_close(module(scaled), y)


def test_denominator_never_divides_by_less_than_epsilon():
    module = build("normaliser", "denominator", epsilon=0.5)
    weights = torch.tensor([0.1, 0.0, -0.1, 2.0, -2.0])
    columns = torch.stack([torch.ones(5), weights], -1)[None, None]
    assert module(columns).flatten().tolist() == [2.0, 2.0, -2.0, 0.5, -0.5]


def test_identity_returns_the_outputs():
    y = outputs()
    module = build("normaliser", "identity")
    assert module(y) is y and not module.denominator


@pytest.mark.parametrize("option", NORMS)
def test_norms_are_computed_in_float32_and_their_parameters_take_no_weight_decay(option: str):
    module, y = build("normaliser", option), outputs()
    assert module(y.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(module(y.bfloat16()), module(y.bfloat16().float()))
    assert all(parameter._no_decay for parameter in module.parameters())


@pytest.mark.parametrize("option", [*NORMS, "denominator"])
def test_normalisers_refuse_an_epsilon_of_zero(option: str):
    with pytest.raises(UsageError, match=r"normaliser.epsilon=0 must be greater than 0"):
        build("normaliser", option, epsilon=0)
