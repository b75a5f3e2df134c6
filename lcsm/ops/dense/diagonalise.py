"""A constant matrix in its eigenvectors: a complex diagonal, which other algorithms run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import exp
from typing import Any

import torch

from lcsm.errors import UsageError
from lcsm.ops.reference import blank_memory
from lcsm.ops.rotate import rotate
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.steps.lockstep import lockstep
from lcsm.ops.substeps import by_steps
from lcsm.shapes import Factor, Inputs, Memory, Reads, Resets, Tensor, Writes
from lcsm.structures import LOG_DECAY_FLOOR, Dense, Diagonal

# Eigenvectors whose condition number multiplies the rounding error to more than this are refused.
LARGEST_LOSS = 1e-4
# Gradients of eigenvectors divide by the distance of eigenvalues.
SMALLEST_GAP = 1e-6


@by_steps
def diagonalise(
    spec: RecurrenceSpec,
    structure: Dense,
    inputs: Inputs,
    expand: Writes,
    shrink: Factor,
    memory: Memory | None = None,
    keep: bool = False,
    resets: Resets | None = None,
    inner: Callable[..., Any] | None = None,
) -> tuple[Reads, Memory | None]:
    """A constant matrix in its eigenvectors: a complex diagonal; arguments and results as in `ops.reference`.

        matrix = V diag(lambda) V^-1,   memory = V modes,   modes_t = lambda modes_{t-1} + (V^-1 expand_t) input_t^T

    Args:
        inner: algorithm of the diagonal; lockstep for P = 1, else rotate.
    Raises:
        ValueError: the matrix is data-driven, its eigenvectors are too ill-conditioned for the precision, or gradients
            are asked for while two eigenvalues are equal.
    """
    shape = list(structure.matrix.shape)
    if shape[:2] != [1, 1]:
        raise ValueError(
            f"diagonalise needs one matrix for all steps, but matrix has shape {shape}, [B L H N N]: use algorithm=loop"
        )
    # a memory of no rows has the type of a whole one
    blank = blank_memory(spec, structure, inputs, expand, 0)
    dtype = blank.dtype if memory is None else torch.promote_types(blank.dtype, memory.dtype)
    diagonal, vectors, inverse = _decompose(structure.matrix, dtype)
    wide, size = vectors.dtype, spec.state_dim
    if inner is None:
        inner = lockstep if inputs.shape[3] == 1 else rotate
    if shrink.is_complex() and not dtype.is_complex:
        shrink = shrink.real
    outputs, final = inner(
        replace(spec, kind="diagonal", decay="HN", phase="HN", gain=None, expand="LHN", shrink="LHN"),
        diagonal,
        inputs,
        inverse @ expand.to(wide).expand(*expand.shape[:3], size, 1),
        vectors.mT @ shrink.to(wide).expand(*shrink.shape[:3], size, 1),
        None if memory is None else inverse[:, 0] @ memory.to(wide),
        keep=keep,
        resets=resets,
    )
    if spec.reads == "memory":
        outputs = (vectors @ outputs.unsqueeze(-1)).squeeze(-1)
        outputs = outputs if dtype.is_complex else outputs.real
    if final is not None:
        final = vectors[:, 0] @ final
        final = final if dtype.is_complex else final.real
    return outputs, final


def _decompose(matrix: Tensor, dtype: torch.dtype) -> tuple[Diagonal, Tensor, Tensor]:
    """Eigenvalues as a diagonal oscillation, eigenvectors and their inverse [1 1 #H N N], made in complex128."""
    values, vectors = torch.linalg.eig(matrix.to(torch.complex128))
    _refuse_defective(values.detach(), vectors.detach(), torch.finfo(dtype).eps, matrix.requires_grad)
    log_decay = values.abs().clamp_min(exp(LOG_DECAY_FLOOR)).log()
    parts = (part.unsqueeze(-1).to(dtype.to_real()) for part in (log_decay, values.angle()))
    diagonal = Diagonal(**dict(zip(("log_decay", "phase"), parts, strict=True)))
    wide = dtype.to_complex()
    return diagonal, vectors.to(wide), torch.linalg.inv(vectors).to(wide)


def _refuse_defective(values: Tensor, vectors: Tensor, epsilon: float, differentiated: bool) -> None:
    """Matrices whose eigenvectors, or the gradients of these, would lose all precision."""
    condition = float(torch.linalg.cond(vectors).max())
    if not condition * epsilon < LARGEST_LOSS:
        raise UsageError(
            f"mixer.algorithm=diagonalise: the eigenvectors of matrix have condition number {condition:.1e}, at most "
            f"{LARGEST_LOSS / epsilon:.0e} keeps its precision:\nuse mixer.algorithm=powers"
        )
    if differentiated and values.shape[-1] > 1:
        distances = (values.unsqueeze(-1) - values.unsqueeze(-2)).abs()
        distances.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
        gap = float(distances.min())
        if gap < SMALLEST_GAP:
            raise UsageError(
                f"mixer.algorithm=diagonalise: two eigenvalues of matrix differ by {gap:.1e}, but gradients need "
                f"{SMALLEST_GAP:.0e}:\nuse mixer.algorithm=powers"
            )
