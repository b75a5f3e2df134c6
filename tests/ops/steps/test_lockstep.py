"""The lock-step scan of constant oscillations equals the reference."""

import pytest
import torch

from lcsm.ops.steps import lockstep as module
from lcsm.ops.steps.blocks import Contraction
from lcsm.ops.steps.lockstep import lockstep
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

T = 4
MEMORY = {"reads": "memory"}
CASES = {
    "S5": Case({"log_decay": "N", "phase": "N", "step": "N"}, "", "BLN", "", 1, 5, 1, ("expand",), settings=MEMORY),
    "LRU": Case({"log_decay": "HN", "phase": "HN"}, "BLHP", "HN", "BLHN", 3, 2, 1, ("expand",)),
    "pairs": Case({"log_decay": "HN", "phase": "HN"}, width=1, complex=("expand", "shrink"), settings={"pairs": True}),
    "real per channel": Case({"log_decay": "HN"}, expand="BLN", shrink="BLN", heads=5, width=1),
    "one row": Case({"log_decay": "HP"}, expand="BLH", shrink="", size=1, width=5),
    "N x P": Case({"log_decay": "NP", "columns": "BP"}, expand="BLN", shrink="HNP"),
    "real decay, complex factors": Case({"log_decay": "HN"}, complex=("expand", "shrink"), width=1),
}


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", T)


@pytest.mark.parametrize("length", [1, 2, T - 1, T, T + 1, 23])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name: str, length: int):
    assert_agrees(lockstep, CASES[name], length)


@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("memory", [False, True], ids=["blank", "memory"])
@pytest.mark.parametrize("name", CASES)
def test_exclusive_reads_and_resets_equal_the_reference(name: str, memory: bool, exclusive: bool):
    resets = random_resets(23)
    assert_agrees(lockstep, CASES[name], 23, memory=memory, keep=memory, resets=resets, exclusive=exclusive)


@pytest.mark.parametrize("bytes_", [1, 1000], ids=["one chunk", "few chunks"])
def test_small_blocks_change_nothing(bytes_: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", bytes_)
    assert_agrees(lockstep, CASES["LRU"], 23, resets=random_resets(23))


@pytest.mark.parametrize("name", ["S5", "real per channel"])
def test_a_split_sequence_changes_nothing(name: str):
    assert_splits(lockstep, CASES[name], 23, 9)


def test_strong_decays_stay_finite_and_equal_the_reference():
    assert_agrees(lockstep, Case(**{**vars(CASES["LRU"]), "strength": 300.0}), 9)


def test_float32_error_is_small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CHUNK", 32)
    assert float32_error(lockstep, CASES["LRU"], 521) < 1e-6


def test_data_driven_decay_is_refused():
    case = Case({"log_decay": "BLHN"})
    with pytest.raises(ValueError, match="elementwise"):
        call(lockstep, case.spec(), Diagonal, case.leaves(3))


def test_float64_table_keeps_float32_powers_exact():
    leaves = {"log_decay": torch.full((1, 1, 1, 1, 1), -1e-4), "phase": torch.full((1, 1, 1, 1, 1), 3.0)}
    walk = module.LockStep(Diagonal(**leaves), None, 32, Contraction())
    expected = torch.exp(torch.complex(*(leaf.double() for leaf in leaves.values())) * module.CHUNK)
    assert (walk.powers[-1] - expected).abs().max() < 1e-7


@pytest.mark.parametrize("name", ["S5", "real per channel"])
def test_strong_decays_stay_finite_in_float32(name: str):
    assert_strong_decays_stay_finite(lockstep, CASES[name])


@pytest.mark.parametrize("name", ["S5", "real per channel"])
def test_precision_does_not_follow_autocast_or_inputs(name: str):
    assert_autocast_is_ignored(lockstep, CASES[name])
