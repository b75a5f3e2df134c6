"""LDNN: the modes of several multiple-input, multiple-output systems beside each other."""

from __future__ import annotations

from typing import Literal

from lcsm.shapes import Tensor
from lcsm.stages.settings import choose
from lcsm.stages.state_space import hippo
from lcsm.stages.state_space.discretisation import log_uniform_steps
from lcsm.stages.state_space.modes import Modes
from lcsm.stages.state_space.spectrum import PartMap, imaginary_map, same, stable_map

BASES = {"hippo": lambda size, pairs: hippo.block_modes(size, 1, pairs), "released": hippo.released_ldnn_modes}


class Ldnn(Modes):
    """The modes of one system per head, each written by its own share of the channels.

    Args:
        init: hippo (the eigenvalues of the normal part of HiPPO-LegS) or released (as the code of the authors computes
            them, see `hippo.released_ldnn_modes`; the maps are applied to these numbers as they are).
        pairs: modes stand for conjugate pairs.
        real: map that keeps real parts negative: clip (at -1e-4), softplus, sigmoid, gaussian or exp.
        imaginary: map of the imaginary parts, one of `spectrum.IMAGINARY`.
        step_per_mode: one step size per mode, or one per head.
        discretisation: zero_order_hold, bilinear, dirac or euler.
        step_range: smallest and largest step size at first, log-uniform between.
        rate, irregular: as in `Modes`.
    Source: Linear Dynamics-embedded Neural Network, leonty1/DeepLDNN.
    """

    mixes_channels = True

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        init: Literal["hippo", "released"],
        pairs: bool,
        real: str,
        imaginary: str,
        step_per_mode: bool,
        discretisation: str,
        step_range: list[float],
        rate: float,
        irregular: bool,
    ) -> None:
        rates, _ = choose("oscillation.init", init, BASES)(state_dim * (2 if pairs else 1), pairs)
        map_of_reals = stable_map(real)
        super().__init__(
            rates.repeat(num_heads, 1),
            log_uniform_steps((num_heads, state_dim if step_per_mode else 1), step_range),
            PartMap(map_of_reals.value, same) if init == "released" else map_of_reals,
            discretisation,
            pairs,
            rate,
            irregular,
        )
        self.imaginary_map = imaginary_map(imaginary)

    def turn(self, imaginary: Tensor) -> Tensor:
        return self.imaginary_map(imaginary)
