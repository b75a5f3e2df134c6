"""The block-wise step loop equals the reference for every diagonal oscillation."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from lcsm.ops.steps import elementwise as module
from lcsm.ops.steps.elementwise import elementwise
from lcsm.structures import LOG_DECAY_FLOOR, Diagonal, rows
from tests.ops.agreement import (
    Case,
    assert_agrees,
    assert_autocast_is_ignored,
    assert_splits,
    assert_strong_decays_stay_finite,
    call,
    float32_error,
    gradients,
    random_resets,
)

T = 4


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORTEST", T)
    monkeypatch.setattr(module, "LONGEST", T)


@dataclass(frozen=True, kw_only=True)
class Mixed(Diagonal):
    """Log-sigmoid of a product of a row and a column gate: neither a sum nor a product of factors."""

    gate: torch.Tensor

    def log(self, start: int, stop: int) -> torch.Tensor:
        value = F.logsigmoid(rows(self.log_decay, start, stop) * rows(self.gate, start, stop))
        return value.clamp_min(LOG_DECAY_FLOOR)


CASES = {
    "Mamba": Case({"log_decay": "HN", "step": "BLH"}, expand="BLN", shrink="BLN", heads=5, width=1),
    "EOS N x P": Case({"log_decay": "NP", "step": "BLP"}, expand="BLN", shrink="BLN", heads=1, width=4),
    "GLA": Case({"log_decay": "BLHN"}),
    "per channel P=1": Case({"log_decay": "BLHN"}, heads=4, width=1),
    "separable": Case({"log_decay": "BLHN", "columns": "BLHP"}),
    "mixed": Case({"log_decay": "BLHN", "gate": "BLHP"}, kind=Mixed),
    "learned N x P factors": Case({"log_decay": "LH"}, expand="HNP", shrink="NP"),
    "minGRU": Case({"log_decay": "BLH"}, expand="", shrink="", size=1, width=1, heads=6),
    "HGRN": Case({"log_decay": "BLHP"}, expand="", shrink="BLHP", size=1, width=5),
    "constant": Case({"log_decay": "HNP"}, expand="HNP", shrink="HNP"),
    "constant gates with one input row": Case({"log_decay": ""}, inputs="LP", expand="L", shrink="BHN"),
    "complex constant": Case({"log_decay": "HN", "phase": "HN"}),
    "complex data-driven": Case({"log_decay": "BLHN", "phase": "BLH", "step": "LH"}, complex=("expand", "shrink")),
    "complex inputs": Case({"log_decay": "BLHP", "phase": "HP"}, "BLHP", "", "", size=1, complex=("inputs", "shrink")),
    "real decay with complex factors": Case({"log_decay": "BLHN"}, complex=("expand", "shrink")),
    "real memory with complex shrink": Case({"log_decay": "BLHN"}, complex=("shrink",)),
    "pairs": Case({"log_decay": "HN", "phase": "LHN"}, complex=("expand", "shrink"), settings={"pairs": True}),
    "memory": Case({"log_decay": "LHN"}, "", "BLN", "", heads=1, width=1, settings={"reads": "memory"}),
    "swapped memory": Case({"log_decay": "LH"}, "", "BLN", "", heads=5, width=1, settings={"reads": "memory"}),
    "complex memory": Case(
        {"log_decay": "HN", "phase": "BLN"}, "", "BLN", "", heads=1, width=1, complex=("expand",),
        settings={"reads": "memory", "pairs": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("length", [1, 2, T - 1, T, T + 1, 13])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name: str, length: int):
    assert_agrees(elementwise, CASES[name], length)


@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("packed", [False, True], ids=["one segment", "packed"])
@pytest.mark.parametrize("name", CASES)
def test_exclusive_reads_and_resets_equal_the_reference(name: str, exclusive: bool, packed: bool):
    resets = random_resets(13) if packed else None
    assert_agrees(elementwise, CASES[name], 13, resets=resets, exclusive=exclusive)


@pytest.mark.parametrize("memory", [False, True], ids=["blank", "memory"])
@pytest.mark.parametrize("keep", [False, True], ids=["drop", "keep"])
def test_memory_may_be_absent_on_either_side(memory: bool, keep: bool):
    assert_agrees(elementwise, CASES["complex data-driven"], 7, memory=memory, keep=keep)


def test_only_the_final_memory_may_be_differentiated():
    case = CASES["GLA"]
    leaves = case.leaves(9)
    found = gradients([call(elementwise, case.spec(), Diagonal, leaves, keep=True)[1]], leaves)
    assert found["inputs"].abs().sum() > 0
    assert found["shrink"].abs().sum() == 0


@pytest.mark.parametrize("name", ["Mamba", "mixed", "complex data-driven"])
def test_slices_of_the_batch_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SLICE_BYTES", 1)
    assert_agrees(elementwise, CASES[name], 9, resets=random_resets(9))


def test_blocks_stay_below_sixteen_megabytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    for row_bytes in (4, 1 << 12, 1 << 16, 1 << 20, 1 << 23):
        steps, slices = module.cut(1000, 16, row_bytes)
        rows, longest = slices[0][1], steps[0][1]
        assert rows * longest * row_bytes <= 1 << 24
        assert (steps[-1][1], slices[-1][1]) == (1000, 16)


@pytest.mark.parametrize("name", ["Mamba", "GLA", "complex data-driven", "swapped memory"])
def test_a_split_sequence_changes_nothing(name: str):
    assert_splits(elementwise, CASES[name], 11, 5)


@pytest.mark.parametrize("name", ["Mamba", "mixed", "complex data-driven"])
def test_strong_decays_stay_finite_and_equal_the_reference(name: str):
    case = CASES[name]
    assert_agrees(elementwise, Case(**{**vars(case), "strength": 300.0}), 9)


@pytest.mark.parametrize("name", ["Mamba", "separable", "complex data-driven"])
def test_float32_error_is_small(name: str):
    assert float32_error(elementwise, CASES[name], 257) < 1e-6


@pytest.mark.parametrize("name", ["Mamba", "mixed", "complex data-driven"])
def test_strong_decays_stay_finite_in_float32(name: str):
    assert_strong_decays_stay_finite(elementwise, CASES[name])


@pytest.mark.parametrize("name", ["Mamba", "mixed", "complex data-driven"])
def test_precision_does_not_follow_autocast_or_inputs(name: str):
    assert_autocast_is_ignored(elementwise, CASES[name])
