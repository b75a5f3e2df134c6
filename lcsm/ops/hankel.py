"""Hankel matrices of kernels: how many states a recurrence needs, and what no recurrence can do with fewer.

    H[i, j] = kernel[i + j],  i, j < h = ceil(L / 2)        kernel: the L lags that the modes are to give

The rank of H is the smallest exact order (Kronecker). A recurrence of order r has a Hankel matrix of rank r, which
differs from H by at least the tail of its singular values (Eckart, Young), and each lag occurs at most h times in H:

    ||kernel - kernel_r||_2  >=  sqrt(sum over i > r of sigma_i^2 / h)      for every order-r recurrence, stable or not
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from lcsm.shapes import Float, Int, Tensor

# rows up to which a dense decomposition is made; beyond, a projection onto a random subspace
DENSE_ROWS = 384
# real numbers of the dense matrices that are held at once
BLOCK = 1 << 24


class Spectrum(NamedTuple):
    """Leading part of the decomposition of Hankel matrices.

    Args:
        values: singular values, largest first, [C q]; none is larger than the true one of its rank.
        vectors: left singular vectors, [C h q].
        rows: h.
    """

    values: Float[Tensor, "C q"]
    vectors: Float[Tensor, "C h q"]
    rows: int


def rows_of(length: int) -> int:
    """Number of rows of the Hankel matrix of `length` lags."""
    return -(-length // 2)


def hankel(kernel: Float[Tensor, "C L"]) -> Float[Tensor, "C h h"]:
    """The Hankel matrix of every channel; an even number of lags leaves the last one out."""
    rows = rows_of(kernel.shape[1])
    return kernel[:, : 2 * rows - 1].unfold(1, rows, 1)


def spectrum(kernel: Float[Tensor, "C L"], count: int) -> Spectrum:
    """The `count` largest singular values and their vectors, or all of them where the matrices are small.

    Args:
        kernel: double precision.
        count: at least this many, at most h; beyond a third of h everything is computed.
    """
    rows = rows_of(kernel.shape[1])
    if rows <= DENSE_ROWS or 3 * count >= rows:
        size = max(1, BLOCK // rows**2)
        parts = [_dense(part) for part in kernel.split(size)]
    else:
        parts = [_projected(part, count) for part in kernel.split(max(1, BLOCK // (rows * (count + 10))))]
    values, vectors = (torch.cat(part) for part in zip(*parts, strict=True))
    return Spectrum(values, vectors, rows)


def _dense(kernel: Float[Tensor, "C L"]) -> tuple[Tensor, Tensor]:
    # symmetric, so that eigenvectors are singular vectors
    values, vectors = torch.linalg.eigh(hankel(kernel))
    order = values.abs().argsort(1, descending=True)
    return values.abs().gather(1, order), vectors.gather(2, order[:, None].expand_as(vectors))


def _projected(kernel: Float[Tensor, "C L"], count: int) -> tuple[Tensor, Tensor]:
    """Rayleigh and Ritz in a subspace that powers of the matrix have turned towards the leading vectors."""
    rows = rows_of(kernel.shape[1])
    start = torch.randn(rows, count + 10, dtype=kernel.dtype, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(_times(kernel, start.expand(len(kernel), -1, -1))).Q
    for _ in range(3):
        basis = torch.linalg.qr(_times(kernel, basis)).Q
    values, vectors = torch.linalg.eigh(basis.mT @ _times(kernel, basis))
    order = values.abs().argsort(1, descending=True)
    return values.abs().gather(1, order), basis @ vectors.gather(2, order[:, None].expand_as(vectors))


def _times(kernel: Float[Tensor, "C L"], vectors: Float[Tensor, "C h q"]) -> Float[Tensor, "C h q"]:
    """Hankel matrix times vectors, as a correlation by FFT."""
    rows = vectors.shape[1]
    size = 1 << (3 * rows).bit_length()
    taps = torch.fft.rfft(kernel[:, : 2 * rows - 1], n=size)[..., None]
    return torch.fft.irfft(taps * torch.fft.rfft(vectors, n=size, dim=1).conj(), n=size, dim=1)[:, :rows]


def lower_bound(values: Float[Tensor, "C q"], rows: int) -> Float[Tensor, "C q+1"]:
    """Below which 2-norm of the error no recurrence of order 0, 1, ..., q gets, whatever its modes."""
    tail = values.square().flip(1).cumsum(1).flip(1)
    return (torch.nn.functional.pad(tail, (0, 1)) / rows).sqrt()


def least_order(values: Float[Tensor, "C q"], rows: int, allowed: Float[Tensor, " C"]) -> Int[Tensor, " C"]:
    """The smallest order of each channel whose lower bound does not exceed what is allowed in the 2-norm."""
    return (lower_bound(values, rows) > allowed[:, None]).sum(1)
