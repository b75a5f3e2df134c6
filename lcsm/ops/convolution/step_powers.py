"""Powers of one step of a constant low-rank oscillation, as real matrices in double precision.

A step is linear over the reals, also where it takes the real part of conjugate pairs: with N complex modes it is a
matrix of 2 N rows. Where that is small, this is the fastest way to a long kernel.
"""

from __future__ import annotations

import torch

from lcsm.shapes import Factor, Float, Memory, Num, Tensor, Writes
from lcsm.structures import LowRank, in_double


def step_matrix(structure: LowRank, pairs: bool) -> Float[Tensor, "H M M"]:
    """The matrix of one step over the real directions of the memory; M = 2 N with complex modes, N without."""
    heads, modes = structure.left.shape[2:4]
    basis = torch.eye(modes, dtype=torch.float64, device=structure.left.device)
    if structure.phase is not None:
        basis = torch.cat([basis, 1j * basis], -1)
    return real_rows(structure.map(in_double).advance(basis.expand(1, heads, modes, -1), 0, pairs))[0]


def squares(matrix: Float[Tensor, "H M M"], count: int) -> list[Float[Tensor, "H M M"]]:
    """The powers 1, 2, 4, ... of a matrix that `krylov` needs for `count` columns."""
    found = [matrix]
    while 1 << len(found) < count:
        found.append(found[-1] @ found[-1])
    return found


def krylov(
    powers: list[Float[Tensor, "H M M"]], column: Float[Tensor, "H M 1"], count: int
) -> Float[Tensor, "H M count"]:
    """The vectors b, A b, ..., A^(count - 1) b as columns, by doubling; `powers` are those of `squares`."""
    found = column
    for power in powers:
        if found.shape[-1] >= count:
            break
        found = torch.cat([found, power @ found], -1)
    return found[..., :count]


def kernel(structure: LowRank, expand: Writes, shrink: Factor, length: int, pairs: bool) -> Float[Tensor, "H L"]:
    """The impulse response after 0 .. length - 1 steps; arguments as in `resolvent.kernel`.

    Powers up to about sqrt(L) meet powers of A^sqrt(L) in one product.
    """
    fine = max(1, length.bit_length() // 2)
    size, count = 1 << fine, -(-length >> fine)
    powers = squares(step_matrix(structure, pairs), max(size + 1, size * count))
    columns = krylov(powers[:fine], real_columns(expand, structure), size)
    rows = krylov([power.mT for power in powers[fine:]], reader(shrink, structure, pairs), count)
    return (rows.mT @ columns).flatten(1)[:, :length]


def advance_by(structure: LowRank, memory: Memory, count: int, pairs: bool) -> Memory:
    """A memory [B H N P] after `count` steps without input."""
    raised = torch.linalg.matrix_power(step_matrix(structure, pairs), count)
    result = raised @ real_rows(in_double(memory))
    return torch.complex(*result.chunk(2, -2)) if structure.phase is not None else result


def real_rows(value: Num[Tensor, "*rest N P"]) -> Float[Tensor, "*rest M P"]:
    """Complex rows as twice as many real ones."""
    return torch.cat([value.real, value.imag], -2) if value.is_complex() else value


def real_columns(vector: Factor, structure: LowRank) -> Float[Tensor, "H M 1"]:
    """A constant direction [1 1 H N 1] as a real column for every head."""
    return real_rows(_full(vector, structure))


def reader(shrink: Factor, structure: LowRank, pairs: bool) -> Float[Tensor, "H M 1"]:
    """The real vector whose product with the memory is Re(shrink^T memory), twice that for pairs."""
    return real_rows(_full(shrink, structure).conj().resolve_conj()) * (2 if pairs else 1)


def _full(vector: Factor, structure: LowRank) -> Num[Tensor, "H N 1"]:
    """A constant direction for every head and row, complex where the memory is."""
    vector = in_double(vector)[0, 0].expand(*structure.left.shape[2:4], 1)
    return vector.to(torch.complex128) if structure.phase is not None else vector
