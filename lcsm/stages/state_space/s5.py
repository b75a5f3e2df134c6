"""S5: the modes of one multiple-input, multiple-output state space system."""

from __future__ import annotations

from lcsm.stages.state_space import hippo
from lcsm.stages.state_space.discretisation import log_uniform_steps
from lcsm.stages.state_space.modes import Modes
from lcsm.stages.state_space.spectrum import stable_map


class S5(Modes):
    """The modes of a system that all channels share: N modes, P = 1, written by expand_t = B x_t and read by C m_t.

    The rates start at the eigenvalues of a block-diagonal matrix whose blocks are the normal part of HiPPO-LegS.

    Args:
        blocks: number of blocks; divides the real states, 2 N with pairs and N without.
        pairs: modes stand for conjugate pairs.
        real: map that keeps real parts negative: clip (at -1e-4), exp, softplus, sigmoid or gaussian.
        discretisation: zero_order_hold, bilinear, dirac or euler.
        step_range: smallest and largest step size at first, log-uniform between; one step size per mode.
        rate, irregular: as in `Modes`.
    Source: S5 (2208.04933), whose code clips only where it is asked to.
    """

    mixes_channels = True

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        blocks: int,
        pairs: bool,
        real: str,
        discretisation: str,
        step_range: list[float],
        rate: float,
        irregular: bool,
    ) -> None:
        rates, _ = hippo.block_modes(state_dim * (2 if pairs else 1), blocks, pairs)
        super().__init__(
            rates.repeat(num_heads, 1),
            log_uniform_steps((num_heads, state_dim), step_range),
            stable_map(real),
            discretisation,
            pairs,
            rate,
            irregular,
        )
