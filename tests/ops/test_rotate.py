"""The rotation equals the reference and keeps its memory in the true frame."""

import pytest
import torch

from lcsm.ops.reference import reference
from lcsm.ops.rotate import rotate
from lcsm.ops.steps.elementwise import elementwise
from lcsm.structures import Diagonal
from tests.ops.agreement import (
    Case,
    assert_agrees,
    assert_autocast_is_ignored,
    assert_splits,
    assert_strong_decays_stay_finite,
    call,
    float32_error,
    random_resets,
)

BOTH = ("expand", "shrink")
CASES = {
    "cosFormer": Case({"log_decay": "", "phase": ""}),
    "LRPE": Case({"log_decay": "", "phase": "HN"}),
    "RetNet": Case({"log_decay": "H", "phase": "N"}),
    "GateLoop": Case({"log_decay": "BLHN", "phase": "BLHN"}),
    "one phase for all rows": Case({"log_decay": "BLH", "phase": "BLH"}),
    "discretised": Case({"log_decay": "HN", "phase": "HN", "step": "BLH"}),
    "decay along P": Case({"log_decay": "LHN", "columns": "BLHP", "phase": "BLN"}),
    "complex factors": Case({"log_decay": "HN", "phase": "HN"}, complex=BOTH),
    "complex expand, pairs": Case({"log_decay": "HN", "phase": "BLHN"}, complex=("expand",), settings={"pairs": True}),
    "constant factors": Case({"log_decay": "", "phase": "LHN"}, expand="", shrink="HN"),
    "expand and shrink along P": Case({"log_decay": "", "phase": "LHN"}, expand="LP", shrink="BHP"),
}


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name: str, length: int):
    assert_agrees(rotate, CASES[name], length)


@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("memory", [False, True], ids=["blank", "memory"])
@pytest.mark.parametrize("name", CASES)
def test_exclusive_reads_and_resets_equal_the_reference(name: str, memory: bool, exclusive: bool):
    resets = random_resets(13)
    assert_agrees(rotate, CASES[name], 13, memory=memory, keep=memory, resets=resets, exclusive=exclusive)


@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
def test_whole_memories_are_read_in_their_true_frame(exclusive: bool):
    case = Case({"log_decay": "HN", "phase": "HN"}, "", width=1, complex=("expand",), settings={"reads": "memory"})

    def algorithm(*arguments, **options):
        return rotate(*arguments, **options, inner=elementwise)

    assert_agrees(algorithm, case, 13, resets=random_resets(13), exclusive=exclusive)


@pytest.mark.parametrize("name", ["LRPE", "GateLoop", "complex factors"])
def test_a_split_sequence_changes_nothing(name: str):
    assert_splits(rotate, CASES[name], 17, 5)


@pytest.mark.parametrize("keep", [False, True], ids=["drop", "keep"])
def test_rows_without_phase_stay_single(keep: bool):
    case, rows = CASES["LRPE"], []
    leaves = case.leaves(9)
    leaves["phase"] = (leaves["phase"].detach() * torch.tensor([1.0, 0.0, 0.0])[:, None]).requires_grad_()

    def inner(spec, *arguments, **options):
        rows.append(spec.state_dim)
        return reference(spec, *arguments, **options)

    found, memory = call(rotate, case.spec(), Diagonal, leaves, keep=keep, inner=inner)
    expected, final = call(reference, case.spec(), Diagonal, leaves, keep=keep)
    torch.testing.assert_close(found, expected)
    assert rows == [4]
    if keep:
        torch.testing.assert_close(memory, final)
    for one, other in zip(
        *(torch.autograd.grad(y.sum(), list(leaves.values())) for y in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_float32_keeps_the_phase_of_a_long_sequence():
    case = Case({"log_decay": "", "phase": "N"}, heads=1)
    leaves = {name: value.detach() for name, value in case.leaves(16384, torch.float32).items()}
    leaves["log_decay"] -= 0.1
    wide = {name: value.double() for name, value in leaves.items()}
    found, _ = call(rotate, case.spec(), Diagonal, leaves)
    expected, _ = call(rotate, case.spec(), Diagonal, wide)
    assert (found - expected).norm() / expected.norm() < 1e-6


def test_float32_error_is_small():
    assert float32_error(rotate, CASES["GateLoop"], 257) < 1e-6


def test_phase_along_columns_is_refused():
    case = Case({"log_decay": "", "phase": "HP"})
    with pytest.raises(ValueError, match="elementwise"):
        call(rotate, case.spec(), Diagonal, case.leaves(3))


@pytest.mark.parametrize("name", ["GateLoop", "discretised"])
def test_strong_decays_stay_finite_in_float32(name: str):
    assert_strong_decays_stay_finite(rotate, CASES[name])


@pytest.mark.parametrize("name", ["GateLoop", "discretised"])
def test_precision_does_not_follow_autocast_or_inputs(name: str):
    assert_autocast_is_ignored(rotate, CASES[name])
