"""The three algorithms of full matrices equal the reference."""

import pytest
import torch

from lcsm.ops.dense import powers as powers_module
from lcsm.ops.dense.diagonalise import diagonalise
from lcsm.ops.dense.loop import loop
from lcsm.ops.dense.powers import powers
from lcsm.structures import Dense
from tests.ops.agreement import (
    Case,
    assert_agrees,
    assert_autocast_is_ignored,
    assert_splits,
    call,
    float32_error,
    gradients,
    random_resets,
)

T = 4
ALGORITHMS = {"loop": loop, "powers": powers, "diagonalise": diagonalise}
MEMORY = {"reads": "memory"}
CONSTANT = {
    "matrix per head": Case({"matrix": "H"}, kind=Dense),
    "one matrix": Case({"matrix": ""}, kind=Dense, inputs="BLP", expand="L", shrink="HN"),
    "constant factors": Case({"matrix": "H"}, kind=Dense, expand="HN", shrink="N", heads=3),
    "constant expand": Case({"matrix": "H"}, kind=Dense, expand="N", shrink="BLHN"),
    "constant inputs": Case({"matrix": "H"}, "", kind=Dense, width=1),
    "memory": Case({"matrix": "H"}, "", kind=Dense, width=1, settings=MEMORY),
    "complex": Case({"matrix": "H"}, kind=Dense, complex=("matrix", "expand"), settings={"pairs": True}),
    "complex memory": Case({"matrix": "H"}, "", kind=Dense, width=1, complex=("matrix",), settings=MEMORY),
    "complex shrink": Case({"matrix": "H"}, kind=Dense, complex=("shrink",)),
}
DATA_DRIVEN = {
    "every step": Case({"matrix": "BLH"}, kind=Dense),
    "shared by the batch": Case({"matrix": "L"}, kind=Dense, expand="BLN", shrink="", heads=3),
    "memory": Case({"matrix": "BLH"}, "", kind=Dense, width=1, settings=MEMORY),
    "complex": Case({"matrix": "LH"}, kind=Dense, complex=("matrix", "shrink")),
}
SERVED = [(name, case) for name in ALGORITHMS for case in CONSTANT]


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lcsm.ops.dense.loop.STEPS", T)
    monkeypatch.setattr(powers_module, "CHUNK", T)
    monkeypatch.setattr("lcsm.ops.steps.lockstep.CHUNK", T)


@pytest.mark.parametrize("length", [1, 2, T - 1, T, T + 1, 13])
@pytest.mark.parametrize(("name", "case"), SERVED)
def test_equals_the_reference_for_a_constant_matrix(name: str, case: str, length: int):
    assert_agrees(ALGORITHMS[name], CONSTANT[case], length, tolerance=1e-8)


@pytest.mark.parametrize("length", [1, 2, T - 1, T, T + 1, 13])
@pytest.mark.parametrize("case", DATA_DRIVEN)
def test_loop_equals_the_reference_for_data_driven_matrices(case: str, length: int):
    assert_agrees(loop, DATA_DRIVEN[case], length)


@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("memory", [False, True], ids=["blank", "memory"])
@pytest.mark.parametrize(("name", "case"), SERVED)
def test_exclusive_reads_and_resets_equal_the_reference(name: str, case: str, memory: bool, exclusive: bool):
    options = {"memory": memory, "keep": memory, "exclusive": exclusive, "tolerance": 1e-8}
    assert_agrees(ALGORITHMS[name], CONSTANT[case], 13, resets=random_resets(13), **options)


@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("case", DATA_DRIVEN)
def test_data_driven_resets_equal_the_reference(case: str, exclusive: bool):
    assert_agrees(loop, DATA_DRIVEN[case], 13, resets=random_resets(13), exclusive=exclusive)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_split_sequence_changes_nothing(name: str):
    assert_splits(ALGORITHMS[name], CONSTANT["matrix per head"], 13, 5)


def test_small_segments_change_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(powers_module, "SEGMENT_BYTES", 1)
    assert_agrees(powers, CONSTANT["matrix per head"], 13, resets=random_resets(13))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_float32_error_is_small(name: str):
    assert float32_error(ALGORITHMS[name], CONSTANT["matrix per head"], 257) < 3e-6


@pytest.mark.parametrize("name", ["powers", "diagonalise"])
def test_data_driven_matrix_is_refused(name: str):
    case = DATA_DRIVEN["every step"]
    with pytest.raises(ValueError, match="loop"):
        call(ALGORITHMS[name], case.spec(), Dense, case.leaves(3))


def test_defective_matrix_is_refused():
    case = Case({"matrix": ""}, kind=Dense)
    leaves = case.leaves(3)
    leaves["matrix"] = (0.5 * torch.eye(3) + 0.5 * torch.ones(3, 3).triu(1)).double()[None, None, None]
    with pytest.raises(ValueError, match="powers"):
        call(diagonalise, case.spec(), Dense, leaves)


def test_equal_eigenvalues_are_refused_only_for_gradients():
    case = Case({"matrix": ""}, kind=Dense)
    leaves = case.leaves(3)
    leaves["matrix"] = 0.5 * torch.eye(3, dtype=torch.float64)[None, None, None]
    call(diagonalise, case.spec(), Dense, leaves)
    leaves["matrix"].requires_grad_()
    with pytest.raises(ValueError, match="eigenvalues"):
        call(diagonalise, case.spec(), Dense, leaves)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_precision_does_not_follow_autocast_or_inputs(name: str):
    assert_autocast_is_ignored(ALGORITHMS[name], CONSTANT["matrix per head"])


def test_zero_matrix_has_finite_gradients():
    case = Case({"matrix": ""}, kind=Dense, size=2)
    leaves = case.leaves(5)
    leaves["matrix"] = torch.diag(torch.tensor([0.0, 0.5], dtype=torch.float64))[None, None, None].requires_grad_()
    outputs, _ = call(diagonalise, case.spec(), Dense, leaves)
    assert all(torch.isfinite(gradient).all() for gradient in gradients([outputs], leaves).values())
