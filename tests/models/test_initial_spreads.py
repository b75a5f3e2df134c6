"""Random initial values have the standard deviation that their settings and sizes say."""

from collections.abc import Callable

import pytest
import torch

from lcsm.models.build import build_classifier, build_model
from lcsm.stages.gated.channels import BlockLinear
from lcsm.stages.long_convolution.explicit import ExplicitKernel
from lcsm.stages.short_convolution import ShortConvolution
from tests.compose import compose

V = 500
WORDS = ("model.d_model=64", "model.num_layers=1", "model.embedding_std=0.3")


def longconv() -> ExplicitKernel:
    """The kernel of LongConv, whose taps do not decay."""
    words = ("model=longconv", *WORDS, "mixer.state_dim=512", "shrink.init=normal", "shrink.std=0.05")
    return build_model(compose(*words), V).backbone.layers[0].mixer.shrink


def uniform(fan_in: int) -> float:
    """Standard deviation of uniform numbers within 1 / sqrt(fan_in)."""
    return (3 * fan_in) ** -0.5


SPREADS: dict[str, tuple[Callable[[], torch.Tensor], float]] = {
    "short convolution": (lambda: ShortConvolution(4096, 5, "identity").weight, uniform(5)),
    "bias of a short convolution": (lambda: ShortConvolution(4096, 5, "identity").bias, uniform(5)),
    "blocks": (lambda: BlockLinear(256, 512, 8, False, "input").weight, uniform(256 // 8)),
    "taps of LongConv": (lambda: longconv().taps, 0.05),
    "embedding": (lambda: build_model(compose(*WORDS), V).embedding.weight, 0.3),
    "head": (lambda: build_model(compose(*WORDS, "model.tie_embeddings=false"), V).head.weight, 0.3),
    "encoder": (lambda: build_classifier(compose(*WORDS), 3, V, None, "sequence").encoder.weight, 0.3),
}


@pytest.mark.parametrize("name", SPREADS)
def test_initial_values_spread_as_their_settings_say(name: str):
    make, expected = SPREADS[name]
    values = make().detach()
    # of n normal numbers it is known up to a share of 1 / sqrt(2 n), of uniform ones better: five times that
    assert float(values.std()) == pytest.approx(expected, rel=5 * (2 * values.numel()) ** -0.5)
    assert abs(float(values.mean())) < 5 * expected * values.numel() ** -0.5
