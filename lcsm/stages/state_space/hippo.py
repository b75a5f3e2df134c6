"""HiPPO: the matrices that make a memory the coefficients of its past, and their eigenvectors; in double precision."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from lcsm.errors import UsageError
from lcsm.shapes import Complex, Float, Tensor
from lcsm.stages.settings import choose

# Frequencies that vanish are kept this far from zero, so that 1 / eigenvalue stays finite (as the S4 release does).
SMALLEST_RATE = 1e-4


@dataclass(frozen=True)
class System:
    """x' = A x + B u with A = S - low_rank low_rank^T and S normal: a constant on its diagonal plus a skew matrix.

    Args:
        matrix: A, [N N].
        inputs: B, [N].
        low_rank: [N].
    """

    matrix: Float[Tensor, "N N"]
    inputs: Float[Tensor, " N"]
    low_rank: Float[Tensor, " N"]

    @property
    def normal(self) -> Float[Tensor, "N N"]:
        """The normal part S = A + low_rank low_rank^T."""
        return self.matrix + self.low_rank[:, None] * self.low_rank


@dataclass(frozen=True)
class HippoModes:
    """A system in the eigenvectors of its normal part, M modes.

        A = V (diag(eigenvalues) - low_rank low_rank^*) V^*,   B = V inputs

    With `pairs` only the modes of negative imaginary part are there, and V z stands for 2 Re(V z). The phases of the
    eigenvectors, which are arbitrary, make `low_rank` real and positive.

    Args:
        eigenvalues: [M], by ascending imaginary part.
        low_rank, inputs: [M].
        basis: V, [N M].
    """

    eigenvalues: Complex[Tensor, " M"]
    low_rank: Complex[Tensor, " M"]
    inputs: Complex[Tensor, " M"]
    basis: Complex[Tensor, "N M"]


def legs(size: int) -> System:
    """HiPPO-LegS, scaled Legendre polynomials: all of the past, with equal weight.

        A[n, k] = -sqrt((2n + 1)(2k + 1)) below the diagonal, -(n + 1) on it, 0 above;   B[n] = sqrt(2n + 1)

    Source: HiPPO (2008.07669), eq. 29; the normal part S4 (2111.00396), appendix C.
    """
    index = torch.arange(size, dtype=torch.float64, device="cpu")
    root = (2 * index + 1).sqrt()
    return System(-(root[:, None] * root).tril(-1) - torch.diag(index + 1), root, (index + 0.5).sqrt())


def fourier(size: int) -> System:
    """HiPPO-FouT, a truncated Fourier basis: the last unit of time.

    Source: How to train your HiPPO (2206.12037), `fout` of the S4 release.
    Raises:
        UsageError: size is odd; cosines and sines come in pairs.
    """
    if size % 2:
        raise UsageError(f"init=fourier needs an even number of states, but got {size}: add one")
    turns = torch.zeros(size, dtype=torch.float64, device="cpu")
    turns[1::2] = torch.arange(size // 2, device="cpu")
    weights = torch.zeros(size, dtype=torch.float64, device="cpu")
    weights[::2] = math.sqrt(2)
    weights[0] = 1
    matrix = math.pi * (torch.diag(turns[1:], -1) - torch.diag(turns[1:], 1)) - weights[:, None] * weights
    return System(matrix, weights, weights)


SYSTEMS = {"legs": legs, "fourier": fourier}


def modes(measure: str, size: int, pairs: bool) -> HippoModes:
    """A HiPPO system in the eigenvectors of its normal part.

    Args:
        measure: legs or fourier.
        size: number of real states N.
        pairs: keep one mode of each conjugate pair, N / 2 modes; otherwise all N.
    """
    system = choose("oscillation.init", measure, SYSTEMS)(size)
    if pairs and size % 2:
        raise UsageError(f"conjugate pairs need an even number of states, but got {size}: set pairs=false, or add one")
    # the constant on the diagonal of S shifts every eigenvalue; the rest is skew, so that eigh of -i S is exact
    skew = system.normal - torch.diag(system.normal.diagonal())
    imaginary, basis = torch.linalg.eigh(-1j * skew)
    if pairs:
        imaginary, basis = imaginary[: size // 2], basis[:, : size // 2]
        if size > 1 and imaginary[-1].abs() < SMALLEST_RATE:
            basis = _split_zeros(basis)
    low_rank, inputs = (basis.mH @ vector.to(basis.dtype) for vector in (system.low_rank, system.inputs))
    turn = torch.where(low_rank.abs() > 0, low_rank / low_rank.abs().clamp_min(1e-300), 1)
    basis, low_rank, inputs = basis * turn, low_rank * turn.conj(), inputs * turn.conj()
    real = system.normal.diagonal().mean().expand(imaginary.shape)
    return HippoModes(torch.complex(real, imaginary), low_rank, inputs, basis)


def _split_zeros(basis: Complex[Tensor, "N M"]) -> Complex[Tensor, "N M"]:
    """The basis with a fixed choice of one vector for the two-dimensional null space of the Fourier system."""
    basis = basis.clone()
    basis[:, -1] = 0
    basis[:2, -1] = torch.tensor([1, 1j], dtype=basis.dtype, device=basis.device) * math.sqrt(0.5)
    return basis


def block_modes(size: int, num_blocks: int, pairs: bool) -> tuple[Complex[Tensor, " M"], Complex[Tensor, "N M"]]:
    """Eigenvalues [M] and eigenvectors [N M] of a block-diagonal matrix of LegS normal parts.

    Args:
        size: number of real states N of all blocks together.
        num_blocks: blocks of size N / num_blocks, all the same.
        pairs: keep one mode of each conjugate pair.
    Source: S5 (2208.04933), section 4.3.
    """
    if size % num_blocks:
        raise UsageError(f"oscillation.blocks={num_blocks} must divide the {size} real states: choose a divisor")
    block = modes("legs", size // num_blocks, pairs)
    return block.eigenvalues.repeat(num_blocks), torch.block_diag(*[block.basis] * num_blocks)


def released_ldnn_modes(size: int, pairs: bool) -> tuple[Complex[Tensor, " M"], Complex[Tensor, "N M"]]:
    """Eigenvalues [M] and eigenvectors [N M] as the released code of LDNN computes them.

    The diagonal of S is counted twice, so that real parts start at -1; the eigenvalues are not sorted, so that the kept
    half is no half of conjugate pairs; and both parts are made negative, which turns what should be pairs into
    duplicates.

    Source: leonty1/DeepLDNN, ldnn_multihead_A_complex.py.
    """
    normal = legs(size).normal
    values, basis = torch.linalg.eig(-1j * normal)
    kept = size // 2 if pairs else size
    eigenvalues = (normal.diagonal().mean() + 1j * values)[:kept]
    return torch.complex(-eigenvalues.real.abs(), -eigenvalues.imag.abs()), basis[:, :kept]
