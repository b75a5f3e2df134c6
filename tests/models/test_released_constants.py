"""Constants of norms and heads that presets have from their releases."""

import pytest
import torch
from torch.nn import functional

from lcsm.batch import Targets
from lcsm.models.build import build_classifier, build_model
from lcsm.models.generation import generate
from lcsm.models.language_model import LanguageModel
from lcsm.tasks.base import token_loss
from tests.compose import compose, options

# flash-linear-attention: its model configurations pass 1e-6 to the blocks and to the norm of the outputs
PER_HEAD = ["retnet", "gla", "deltanet", "gated_deltanet", "deltaproduct", "kda", "gdn2", "comba"]
OVER_HEADS = ["gsa", "hgrn2", "lightnet"]


def built(*words: str) -> LanguageModel:
    with torch.device("meta"):
        return build_model(compose(*words, "model.d_model=64", "model.num_layers=1"), 11)


@pytest.mark.parametrize("model", [*PER_HEAD, *OVER_HEADS])
def test_norms_of_flash_linear_attention_add_1e_6(model: str):
    layer = built(f"model={model}").backbone.layers[0]
    assert (layer.mixer_norm.eps, layer.mixer.output.normaliser.epsilon) == (1e-6, 1e-6)


@pytest.mark.parametrize("model", ["mamba", "mamba2"])
def test_norms_of_the_blocks_of_mamba_add_1e_5(model: str):
    found = built(f"model={model}").backbone
    assert (found.layers[0].mixer_norm.eps, found.norm.eps) == (1e-5, 1e-5)


def test_the_norm_inside_mamba2_adds_1e_5():
    assert built("model=mamba2").backbone.layers[0].mixer.output.normaliser.epsilon == 1e-5


def test_only_mlstm_caps_its_logits_as_xlstm_7b():
    caps = {model: compose(f"model={model}")["model"]["logit_cap"] for model in options("model")}
    assert {model: cap for model, cap in caps.items() if cap is not None} == {"mlstm": 30.0}


def loud(cap: float | None) -> LanguageModel:
    """A model whose logits go far beyond a cap of 2."""
    words = ("model=mlstm", "model.d_model=16", "model.num_layers=1", f"model.logit_cap={cap or 'null'}")
    return build_model(compose(*words, "model.embedding_std=3.0"), 11).double().eval()


def test_a_cap_bends_the_logits_of_every_way_to_read_a_model():
    model, tokens = loud(2.0), torch.randint(11, (2, 9))
    free = loud(None)(tokens)[0]
    capped = 2 * (free / 2).tanh()
    assert free.abs().max() > 6
    torch.testing.assert_close(model(tokens)[0], capped)
    torch.testing.assert_close(model.read_out(model.hidden(tokens)[0][:, -1]), capped[:, -1])
    state, steps = model.initial_state(), []
    for position in range(9):
        logits, state = model.step(tokens[:, position], state)
        steps.append(logits)
    torch.testing.assert_close(torch.stack(steps, 1), capped)
    nats, count = token_loss(model(tokens)[0], tokens)
    torch.testing.assert_close(nats / count, functional.cross_entropy(capped.flatten(0, 1).float(), tokens.flatten()))


def test_a_model_with_a_cap_writes_what_its_parallel_form_expects():
    model, prompt = loud(2.0), [1, 2, 3]
    new = list(generate(model, prompt, 6, 0.0, None, None, torch.Generator()))
    logits, _ = model(torch.tensor([prompt + new]))
    assert new == logits[0, len(prompt) - 1 : -1].argmax(-1).tolist()


@pytest.mark.parametrize("targets", ["sequence", "pair"])
def test_a_cap_bends_the_logits_of_a_classifier(targets: Targets):
    words = ("model=mlstm", "task=classification", "model.d_model=16", "model.num_layers=1")
    capped, free = (
        build_classifier(compose(*words, f"model.logit_cap={cap}"), 3, 11, None, targets).eval()
        for cap in (0.1, "null")
    )
    tokens = torch.randint(11, (2, 9))
    torch.testing.assert_close(capped(tokens), 0.1 * (free(tokens) / 0.1).tanh())
