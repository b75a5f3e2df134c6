"""Constants of norms and heads that presets have from their releases."""

import pytest
import torch

from lcsm.models.build import build_model
from lcsm.models.language_model import LanguageModel
from tests.compose import compose

# flash-linear-attention: its model configurations pass 1e-6 to the blocks and to the norm of the outputs
PER_HEAD = ["retnet", "gla", "deltanet", "gated_deltanet", "deltaproduct", "kda", "gdn2", "comba"]
OVER_HEADS = ["gsa", "hgrn2", "lightnet"]


def built(*words: str) -> LanguageModel:
    with torch.device("meta"):
        return build_model(compose(*words, "model.d_model=64", "model.num_layers=1"), 11)


@pytest.mark.parametrize("model", [*PER_HEAD, *OVER_HEADS])
def test_norms_of_flash_linear_attention_add_1e_6(model: str):
    layer = built(f"model={model}").backbone.layers[0]
    assert (layer.mixer_norm.eps, layer.mixer.normaliser.epsilon) == (1e-6, 1e-6)


@pytest.mark.parametrize("model", ["mamba", "mamba2"])
def test_norms_of_the_blocks_of_mamba_add_1e_5(model: str):
    found = built(f"model={model}").backbone
    assert (found.layers[0].mixer_norm.eps, found.norm.eps) == (1e-5, 1e-5)


def test_the_norm_inside_mamba2_adds_1e_5():
    assert built("model=mamba2").backbone.layers[0].mixer.normaliser.epsilon == 1e-5
