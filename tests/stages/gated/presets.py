"""The presets of gated and linear-attention models at tiny sizes."""

import torch

from lcsm.models.build import build_model
from lcsm.models.language_model import LanguageModel
from tests.compose import compose

VOCABULARY, LENGTH = 11, 13
SIZES = ("model.d_model=16", "model.num_layers=3", "model.embedding_std=1.0")
# Sizes of their own; windows shorter than the texts of the tests.
OWN = {
    "mamba2": ("mixer.value_dim=8", "mixer.state_dim=8"),
    "based": ("mixer.state_dim=21", "mixers.window.mixer.window=4"),
    "griffin": ("mixers.window.mixer.window=4",),
    "gsa": ("mixer.state_dim=6",),
}
PLAIN = """
    linear_attention linear_attention_norm cosformer lrpe rope_linear_attention retnet tnl gla gateloop based dur
    rwkv4 rwkv5 rwkv6 hgrn hgrn_complex hgrn2 lightnet metala mlstm mingru minlstm hawk griffin mamba mamba2 gsa lrn
    gilr
"""
MODELS = PLAIN.split()


def model_of(name: str, *overrides: str) -> LanguageModel:
    """A model in double precision, with parameters that are nowhere zero."""
    config = compose(f"model={name}", *SIZES, *OWN.get(name, ()), *overrides)
    model = build_model(config, VOCABULARY).double().eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def tokens(length: int = LENGTH, seed: int = 0) -> torch.Tensor:
    """Two texts, [2 L]."""
    return torch.randint(VOCABULARY, (2, length), generator=torch.Generator().manual_seed(seed))
