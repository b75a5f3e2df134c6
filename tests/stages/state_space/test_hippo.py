"""HiPPO systems and their modes."""

import pytest
import torch

from lcsm.errors import UsageError
from lcsm.stages.state_space import hippo


def rebuilt(modes: hippo.HippoModes, pairs: bool) -> torch.Tensor:
    matrix = modes.basis @ torch.diag(modes.eigenvalues) @ modes.basis.mH
    return 2 * matrix.real if pairs else matrix.real


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("measure", ["legs", "fourier"])
def test_modes_give_back_the_matrix_and_the_vectors(measure: str, pairs: bool):
    system, modes = hippo.SYSTEMS[measure](16), hippo.modes(measure, 16, pairs)
    torch.testing.assert_close(rebuilt(modes, pairs), system.normal, rtol=0, atol=1e-12)
    for coordinates, vector in ((modes.inputs, system.inputs), (modes.low_rank, system.low_rank)):
        back = (modes.basis @ coordinates).real * (2 if pairs else 1)
        torch.testing.assert_close(back, vector, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("measure", "real"), [("legs", -0.5), ("fourier", 0.0)])
def test_normal_part_is_a_constant_plus_a_skew_matrix(measure: str, real: float):
    normal = hippo.SYSTEMS[measure](12).normal
    torch.testing.assert_close(normal + normal.T, 2 * real * torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-12)
    values = hippo.modes(measure, 12, True).eigenvalues
    torch.testing.assert_close(values.real, torch.full((6,), real, dtype=torch.float64))
    assert (values.imag <= 0).all() and (values.imag.diff() > 0).all()


def test_low_rank_vector_is_real_and_positive():
    low_rank = hippo.modes("legs", 16, True).low_rank
    assert low_rank.imag.abs().max() < 1e-14 and (low_rank.real > 0).all()


@pytest.mark.parametrize("blocks", [1, 4])
def test_blocks_repeat_one_spectrum_and_stay_apart(blocks: int):
    values, basis = hippo.block_modes(16, blocks, True)
    normal = hippo.legs(16 // blocks).normal
    torch.testing.assert_close(values, hippo.modes("legs", 16 // blocks, True).eigenvalues.repeat(blocks))
    matrix = 2 * (basis @ torch.diag(values) @ basis.mH).real
    torch.testing.assert_close(matrix, torch.block_diag(*[normal] * blocks), rtol=0, atol=1e-12)


def test_released_ldnn_modes_decay_twice_as_fast_and_come_double():
    values, basis = hippo.released_ldnn_modes(64, True)
    assert basis.shape == (64, 32) and (values.imag <= 0).all()
    torch.testing.assert_close(values.real, torch.full((32,), -1.0, dtype=torch.float64))
    assert len({round(value, 4) for value in values.imag.tolist()}) < 32


def test_sizes_that_cannot_be_halved_or_divided_are_refused():
    with pytest.raises(UsageError, match="even number"):
        hippo.modes("legs", 5, True)
    with pytest.raises(UsageError, match="blocks=3"):
        hippo.block_modes(16, 3, True)
