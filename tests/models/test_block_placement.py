"""Norms before and after the branches of a block, and over the batch."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from lcsm.config.check import check_config
from lcsm.errors import UsageError
from lcsm.mixers.base import Mixer
from lcsm.models.block import BatchNorm, Block
from lcsm.models.build import build_model
from lcsm.models.channel import Channel
from lcsm.ops.recurrence import Read
from tests.compose import compose, small


class Doubling(Mixer):
    """A mixer that any test can compute."""

    def forward(self, x, state=None, context=None):
        return 2 * x, state

    def not_asked(self, *_: Any) -> Any:
        """What blocks never call."""
        raise NotImplementedError

    state_size = recurrence_flops = choice = costs = not_asked


class Linear(Channel, nn.Linear):
    """A channel mixer that any test can compute."""


def block(norm: str, placement: str) -> Block:
    return Block(Doubling(), Linear(4, 4), 4, norm, 1e-5, 0.0, placement, False)


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
    # epsilon takes 1e-5 of a variance of 4
    torch.testing.assert_close(outputs.std((0, 1), correction=0), torch.ones(4), rtol=0, atol=1e-5)


@pytest.mark.parametrize("option", ["pre_norm", "pre_batch_norm", "post_norm", "post_batch_norm"])
def test_options_build_models_and_post_norm_ends_without_another(option: str):
    model = build_model(compose(*small(f"block={option}", "channel=glu")), 10)
    assert isinstance(model.backbone.norm, nn.Identity) == option.startswith("post")
    assert torch.isfinite(model(torch.arange(8).view(2, 4))[0]).all()


def test_unknown_placement_is_refused():
    with pytest.raises(UsageError, match=r"block\.placement='middle'"):
        block("layer", "middle")


def test_momentum_is_the_share_of_the_newest_batch():
    model, x = build_model(compose(*small("block=pre_batch_norm", "block.momentum=0.25")), 10), torch.ones(2, 5, 8)
    norm = model.backbone.layers[0].mixer_norm
    norm(3 * x)
    torch.testing.assert_close(norm.running_mean, torch.full((8,), 0.75))
    assert model.backbone.norm.momentum == 0.25
    with pytest.raises(UsageError, match=r"block\.momentum=0\.25 needs block\.norm=batch"):
        build_model(compose(*small("block.momentum=0.25")), 10)


@pytest.mark.parametrize("output", ["half_glu1", "half_glu2", "full_glu", "mixed"])
def test_inner_dropout_acts_on_what_the_output_projects(output: str):
    words = small("model=s5", f"mixer.output.form={output}", "model.dropout=1.0", "block.inner_dropout=true")
    head = build_model(compose(*words), 10).backbone.layers[0].mixer.output
    x, seen = torch.randn(2, 5, 8), {}
    outputs = Read(x.unflatten(-1, (head.num_heads, -1)))
    for name in ("project", "select", "mix"):
        layer = getattr(head, name)
        if layer is not None:
            layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    head(outputs, None, x)
    assert seen and all((value == 0).all() for value in seen.values())
    assert torch.isfinite(head.eval()(outputs, None, x)).all() and seen.popitem()[1].abs().min() > 0


def test_inner_dropout_needs_a_mixer_that_projects_its_outputs():
    with pytest.raises(UsageError, match=r"block\.inner_dropout=true has no place in Attention"):
        build_model(compose(*small("model=attention", "block.inner_dropout=true")), 10)


def test_configurations_that_were_stored_before_a_setting_of_the_block_still_build():
    config = deepcopy(compose(*small("block=pre_batch_norm")))
    del config["block"]["momentum"], config["block"]["inner_dropout"]
    check_config(config)
    assert build_model(config, 10).backbone.norm.momentum == 0.1
