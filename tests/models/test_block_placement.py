"""Norms before and after the branches of a block, and over the batch."""

import pytest
import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.mixers.base import Mixer
from lcsm.models.block import BatchNorm, Block
from lcsm.models.build import build_model
from tests.compose import compose, small


class Doubling(Mixer):
    """A mixer that any test can compute."""

    def forward(self, x, state=None, context=None):
        return 2 * x, state


def block(norm: str, placement: str) -> Block:
    return Block(Doubling(), nn.Linear(4, 4), 4, norm, 1e-5, 0.0, placement, False)


def test_post_norm_normalises_the_sums():
    layer, x = block("layer", "post"), torch.randn(2, 5, 4)
    once = nn.functional.layer_norm(3 * x, (4,))
    expected = nn.functional.layer_norm(once + layer.channel(once), (4,))
    torch.testing.assert_close(layer(x)[0], expected)


def test_pre_norm_normalises_what_the_branches_read():
    layer, x = block("layer", "pre"), torch.randn(2, 5, 4)
    once = x + 2 * nn.functional.layer_norm(x, (4,))
    torch.testing.assert_close(layer(x)[0], once + layer.channel(nn.functional.layer_norm(once, (4,))))


def test_batch_norm_has_statistics_of_each_channel_over_batch_and_time():
    outputs = BatchNorm(4, eps=1e-5)(3 + 2 * torch.randn(8, 50, 4))
    torch.testing.assert_close(outputs.mean((0, 1)), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(outputs.std((0, 1)), torch.ones(4), rtol=0, atol=5e-3)


@pytest.mark.parametrize("option", ["pre_norm", "pre_batch_norm", "post_norm", "post_batch_norm"])
def test_options_build_models_and_post_norm_ends_without_another(option: str):
    model = build_model(compose(*small(f"block={option}", "channel=glu")), 10)
    assert isinstance(model.backbone.norm, nn.Identity) == option.startswith("post")
    assert torch.isfinite(model(torch.arange(8).view(2, 4))[0]).all()


def test_unknown_placement_is_refused():
    with pytest.raises(UsageError, match=r"block\.placement='middle'"):
        block("layer", "middle")
