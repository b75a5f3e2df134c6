"""The associative scan equals the reference."""

import pytest

from lcsm.ops.steps.scan import scan
from tests.ops.agreement import (
    Case,
    assert_agrees,
    assert_autocast_is_ignored,
    assert_splits,
    assert_strong_decays_stay_finite,
    random_resets,
)

CASES = {
    "Mamba": Case({"log_decay": "HN", "step": "BLH"}, expand="BLN", shrink="BLN", width=1),
    "separable": Case({"log_decay": "BLHN", "columns": "BLHP"}),
    "constant": Case({"log_decay": "HN"}, expand="HNP", shrink="HN"),
    "complex": Case({"log_decay": "HN", "phase": "BLHN"}, complex=("expand", "shrink"), settings={"pairs": True}),
    "complex memory": Case(
        {"log_decay": "HN", "phase": "HN"}, "", "BLN", "", heads=1, width=1, complex=("expand",),
        settings={"reads": "memory"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 13])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name: str, length: int):
    assert_agrees(scan, CASES[name], length)


@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("memory", [False, True], ids=["blank", "memory"])
@pytest.mark.parametrize("name", CASES)
def test_exclusive_reads_and_resets_equal_the_reference(name: str, memory: bool, exclusive: bool):
    resets = random_resets(13)
    assert_agrees(scan, CASES[name], 13, memory=memory, keep=memory, resets=resets, exclusive=exclusive)


def test_a_split_sequence_changes_nothing():
    assert_splits(scan, CASES["complex"], 11, 5)


@pytest.mark.parametrize("name", ["Mamba", "complex"])
def test_strong_decays_stay_finite_in_float32(name: str):
    assert_strong_decays_stay_finite(scan, CASES[name])


@pytest.mark.parametrize("name", ["Mamba", "complex"])
def test_precision_does_not_follow_autocast_or_inputs(name: str):
    assert_autocast_is_ignored(scan, CASES[name])
