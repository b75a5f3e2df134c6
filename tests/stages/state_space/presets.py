"""The state space presets at tiny sizes, for the tests beside it."""

import torch

from lcsm.mixers.eos import EosMixer
from lcsm.models.build import Builder
from tests.compose import compose

WIDTH, BATCH, LENGTH = 8, 2, 13
CAUSAL = (
    "s4",
    "s4d_lin",
    "s4d_inv",
    "s4d_legs",
    "s4d_real",
    "dss_exp",
    "s5",
    "ldnn",
    "ldnn_multihead",
    "lru",
)
WORDS = {name: (f"model={name}",) for name in (*CAUSAL, "dss_softmax", "ldnn_bidirectional")}
# the options that stand beside those of a preset
WORDS |= {
    "s4_fourier": (*WORDS["s4"], "oscillation=s4_fourier", "expand=learned_complex_fourier"),
    "s4_tied": (*WORDS["s4"], "oscillation.tied=true"),
    "s4d_bilinear": (*WORDS["s4d_inv"], "oscillation.discretisation=bilinear"),
    "dss_dirac": (*WORDS["dss_exp"], "oscillation.scale=false", "oscillation.separate_steps=false"),
    "dss_softmax_stable": (*WORDS["dss_softmax"], "oscillation.real=exp"),
    "s5_blocks": (*WORDS["s5"], "oscillation.blocks=2", "shrink=s5_truncated"),
    "s5_single": (*WORDS["s5"], "oscillation.pairs=false", "shrink=s5_complex_normal"),
    "ldnn_released": (*WORDS["ldnn_multihead"], "oscillation=ldnn_released", "mixer.skip.of=dense"),
    "ldnn_shared_step": (*WORDS["ldnn"], "oscillation.step_per_mode=false", "oscillation.real=softplus"),
}
STREAMING = [name for name in WORDS if name not in ("dss_softmax", "ldnn_bidirectional")]


def mixer_of(*overrides: str, dtype: torch.dtype = torch.float64) -> EosMixer:
    """The mixer of a preset, of width 8 and with 4 modes per head; two heads where the preset has several."""
    heads = ("mixer.num_heads=2",) if overrides[0] in ("model=ldnn_multihead", "model=ldnn_bidirectional") else ()
    config = compose(f"model.d_model={WIDTH}", "model.num_layers=1", "mixer.state_dim=4", *heads, *overrides)
    mixer = Builder(config).mixer(config, 0, "layer").to(dtype)
    assert isinstance(mixer, EosMixer)
    return mixer


def stream(length: int = LENGTH, seed: int = 0) -> torch.Tensor:
    """Inputs of a mixer, [B L D]."""
    return torch.randn(BATCH, length, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
