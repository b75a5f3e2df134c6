"""The block-diagonal start of S5: eigenvalues, and the matrix that the eigenvectors give back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lcsm.stages.state_space import hippo
from tests.golden.case import Case


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case's eigenvalues; its matrix from them and the eigenvectors."""
    pairs = case.config["conj_sym"]
    values, basis = hippo.block_modes(case.config["P_full"], case.config["blocks"], pairs)
    matrix = (basis @ torch.diag(values) @ basis.mH).real * (2 if pairs else 1)
    yield "block_modes", {"Lambda": values, "V": basis, "Vinv": basis.mH, "S_block": matrix}
