"""S4: one state space system per channel whose matrix is a diagonal minus a rank-one term."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch

from lcsm.ops.convolution.step_powers import advance_by, step_matrix
from lcsm.shapes import Complex, Factor, Float, Stream, Tensor, Writes
from lcsm.stages.base import Oscillation
from lcsm.stages.state_space import hippo
from lcsm.stages.state_space.discretisation import (
    Rates,
    bilinear,
    check_rate,
    log_uniform_steps,
)
from lcsm.stages.state_space.modes import trained
from lcsm.stages.state_space.spectrum import SLOWEST, stable_map
from lcsm.structures import Context, LowRank, Trapezoid, widen


def modes(init: str, state_dim: int) -> hippo.HippoModes:
    """One mode of each conjugate pair of a HiPPO system with 2 N real states, N modes."""
    return hippo.modes(init, 2 * state_dim, pairs=True)


def truncated_read(structure: LowRank, shrink: Factor, length: int) -> Factor:
    """The read-out C (1 - A^L) that published checkpoints keep in place of C, [1 1 H N 1].

    Args:
        structure: the discrete system A of a call.
        shrink: C, [1 1 H N 1].
        length: L, the longest sequence of the checkpoint.
    """
    transposed = replace(structure, left=structure.right, right=structure.left)
    return shrink - advance_by(transposed, shrink[0], length, pairs=True)[None]


def full_read(structure: LowRank, truncated: Factor, length: int) -> Factor:
    """The read-out C of a checkpoint that keeps C (1 - A^L), [1 1 H N 1]; arguments as in `truncated_read`."""
    transposed = replace(structure, left=structure.right, right=structure.left)
    matrix = step_matrix(transposed, pairs=True)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    value = truncated[0, 0].to(torch.complex128)
    solved = torch.linalg.solve(
        identity - torch.linalg.matrix_power(matrix, length), torch.cat([value.real, value.imag], -2)
    )
    return torch.complex(*solved.chunk(2, -2))[None, None]


class S4(Oscillation):
    """The state space system of each channel, H = channels, P = 1, by the trapezoidal rule.

        x' = A x + expand u,   A = diag(rate) - low_rank low_rank^*
        memory_t = (1 - step A / 2)^-1 ((1 + step A / 2) memory_{t-1} + step expand input_t)

    By Woodbury's identity the matrix of a step is again a diagonal plus rank one. Modes stand for conjugate pairs, so
    the rank-one term reads 2 Re(.) of them.

    Args:
        init: HiPPO system that the rates and the low-rank vector start from: legs or fourier; the expand should start
            from the same (expand=learned_complex_legs).
        real: map that keeps real parts negative: exp, softplus, sigmoid, gaussian or clip.
        tied: whether all channels share rates and low-rank vector.
        step_range: smallest and largest step size at first, log-uniform between; one step size per channel.
        rate: factor on all step sizes; 2 for data sampled half as often as in training.
    Returns:
        LowRank with log-decays and phases [1 1 H N 1] and vectors [1 1 H N 1] of rank one.
    Source: S4 (2111.00396) with A - P P^* of SaShiMi (2202.09729), which keeps A stable. No truncated read-out
        C (1 - A^L) and no longest length: see `ops.convolution.resolvent`. The published code also clamps imaginary
        parts of B at 2.
    """

    kind = "low_rank"
    decay = "HN"
    phase = "HN"
    gain = "HN"
    pairs = True

    def __init__(
        self,
        num_heads: int,
        state_dim: int,
        init: Literal["legs", "fourier"],
        real: str,
        tied: bool,
        step_range: list[float],
        rate: float,
    ) -> None:
        super().__init__()
        self.rate, self.real_map = check_rate(rate), stable_map(real)
        start, copies = modes(init, state_dim), 1 if tied else num_heads
        # the Fourier system's modes do not decay by themselves: only its low-rank term forgets
        rates = start.eigenvalues.real.clamp_max(SLOWEST)
        self.real = trained(self.real_map.start(rates).repeat(copies, 1))
        self.imaginary = trained(start.eigenvalues.imag.repeat(copies, 1))
        self.low_rank = trained(torch.view_as_real(start.low_rank.repeat(copies, 1).resolve_conj()))
        self.log_step = trained(log_uniform_steps((num_heads, 1), step_range))

    def system(self) -> tuple[Rates, Complex[Tensor, "1 1 #H N 1"]]:
        """Rates and step sizes, and the low-rank vector."""
        real, imaginary = self.real_map.value(widen(self.real)), widen(self.imaginary)
        step = self.rate * widen(self.log_step).exp()
        rates = Rates(*(value[None, None, ..., None] for value in (real, imaginary, step)))
        return rates, torch.view_as_complex(widen(self.low_rank))[None, None, ..., None]

    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[LowRank, Any]:
        rates, low_rank = self.system()
        log_decay, phase, _ = bilinear(rates)
        half = rates.step / 2
        inverse = 1 / (1 - half * rates.value)
        seen = low_rank.conj() * inverse
        mixed: Float[Tensor, "1 1 H 1 1"] = 2 * (seen * low_rank).real.sum(3, keepdim=True)
        left = -2 * half / (1 + half * mixed) * inverse * low_rank
        structure = Trapezoid(log_decay=log_decay, phase=phase, left=left, right=seen, half_step=half.expand_as(mixed))
        return structure, past
