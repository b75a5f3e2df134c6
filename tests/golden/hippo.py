"""HiPPO matrices and their modes, whatever the phases of the eigenvectors."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.stages.state_space import hippo
from tests.golden.case import Case

MEASURES = {"legs": "legs", "fout": "fourier", "fourier": "fourier"}


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case's matrices; what depends on the phase of an eigenvector is of our own choice of phase."""
    measure, size = MEASURES[case.config["measure"]], case.config["N"]
    system, modes = hippo.SYSTEMS[measure](size), hippo.modes(measure, size, case.config["N_stored"] < size)
    yield (
        "modes",
        {
            "A": system.matrix,
            "B": system.inputs,
            "Lambda": modes.eigenvalues,
            "P": modes.low_rank,
            "Bt": modes.inputs,
            "V": modes.basis,
            "P_gauge": modes.low_rank.abs(),
            "Bt_gauge": modes.inputs.abs(),
            "PB": modes.low_rank.conj() * modes.inputs,
        },
    )
