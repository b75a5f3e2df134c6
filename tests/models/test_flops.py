"""The cost of a model against torch's own count of the matrix products that a forward pass makes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lcsm.inspection import card
from lcsm.models.build import build_model
from tests.compose import compose

B, L, V = 2, 5, 13


@pytest.mark.parametrize("words", [(), ("model.tie_embeddings=false",), ("source=convolved",), ("channel=none",)])
def test_flops_per_token_are_those_of_all_products_and_of_the_recurrence(words: tuple[str, ...]):
    # the reference loop makes no matrix products, so that torch counts those of weights alone
    config = compose("mixer.algorithm=reference", "model.d_model=8", "mixer.state_dim=4", *words)
    model = build_model(config, V)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randint(V, (B, L)))
    recurrence = sum(layer.mixer.recurrence_flops(L) for layer in model.backbone.layers)
    assert card(model, L)["flops_per_token"] == counter.get_total_flops() / (B * L) + recurrence
