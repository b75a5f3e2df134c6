"""The convolution with the mixer's kernel equals the reference."""

import pytest
import torch

from lcsm.ops.convolution import fourier
from lcsm.ops.convolution.convolution import convolution
from lcsm.ops.convolution.fourier import causal_convolution, good_size
from lcsm.ops.convolution.packing import sequences
from lcsm.structures import Diagonal, Shift
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

COMPLEX = ("expand", "shrink")
CASES = {
    "S4D": Case({"log_decay": "HN", "phase": "HN"}, "BLHP", "HN", "HN", 3, 4, 1, COMPLEX, settings={"pairs": True}),
    "one kernel": Case({"log_decay": "N", "phase": "N", "step": ""}, expand="N", shrink="", width=3),
    "kernel per head": Case({"log_decay": "HN"}, expand="N", shrink="HN"),
    "kernel per column": Case({"log_decay": "P"}, expand="N", shrink="N"),
    "kernel per head and column": Case({"log_decay": "N", "columns": "HP"}, expand="NP", shrink="HN"),
    "real decay with complex factors": Case({"log_decay": "HN"}, expand="HN", shrink="HN", complex=COMPLEX),
    "complex shrink": Case({"log_decay": "HN"}, expand="HN", shrink="HN", complex=("shrink",)),
    "one input row": Case({"log_decay": "HN"}, "BLP", "HN", "HN"),
    "data-driven read": Case({"log_decay": "HN", "phase": "N"}, "BLHP", "HN", "BLHN"),
    "data-driven write": Case({"log_decay": "HN"}, "BLHP", "BLHN", "HN", width=1),
    "complex write, whole memory": Case(
        {"log_decay": "HN", "phase": "HN"}, "BLP", "BLHN", "", 2, 3, 1, ("expand",), settings={"reads": "memory"}
    ),
    # a gain is placed on the inputs where there is one row
    "complex inputs, whole memory": Case(
        {"log_decay": "HN", "phase": "HN"}, "BLHP", "BLHN", "", 2, 1, 1, ("inputs",), settings={"reads": "memory"}
    ),
    "entries": Case({"log_decay": "HNP", "phase": "N"}, expand="BLHN", shrink="BLHNP"),
    "shift": Case({}, "BLHP", "HN", "HN", 3, 5, 1, kind=Shift),
    "shift per column": Case({}, "BLHP", "N", "NP", 2, 5, 3, kind=Shift),
}


def newest(case: Case, leaves: dict[str, torch.Tensor]) -> None:
    """Let inputs enter at row 0 only."""
    leaves["expand"] = torch.eye(case.size, 1, dtype=torch.float64)[None, None, None]


@pytest.mark.parametrize("length", [1, 2, 4, 5, 6, 16, 23])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name: str, length: int):
    assert_agrees(convolution, CASES[name], length)


@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("memory", [False, True], ids=["blank", "memory"])
@pytest.mark.parametrize("name", CASES)
def test_exclusive_reads_and_resets_equal_the_reference(name: str, memory: bool, exclusive: bool):
    resets = random_resets(23)
    assert_agrees(convolution, CASES[name], 23, memory=memory, keep=memory, resets=resets, exclusive=exclusive)


@pytest.mark.parametrize("length", [3, 5, 17])
@pytest.mark.parametrize("packed", [False, True], ids=["one segment", "packed"])
def test_newest_row_alone_equals_the_reference(length: int, packed: bool):
    case = CASES["shift"]
    assert_agrees(convolution, case, length, resets=random_resets(length) if packed else None, alter=newest)


@pytest.mark.parametrize("name", ["S4D", "kernel per head", "shift", "data-driven read", "data-driven write"])
def test_a_split_sequence_changes_nothing(name: str):
    assert_splits(convolution, CASES[name], 23, 9)


def test_small_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fourier, "SAMPLES", 1)
    monkeypatch.setattr(fourier, "CHANNELS", 2)
    for name in ("S4D", "kernel per head", "one kernel"):
        assert_agrees(convolution, CASES[name], 23, resets=random_resets(23))


def test_strong_decays_stay_finite_and_equal_the_reference():
    assert_agrees(convolution, Case(**{**vars(CASES["S4D"]), "strength": 300.0}), 9)


def test_float32_keeps_the_phase_of_a_long_kernel():
    for name in ("one kernel", "data-driven read"):
        assert float32_error(convolution, CASES[name], 521) < 1e-6
    inputs, kernel = torch.randn(2, 521, 3, 2), torch.randn(3, 200)
    found, exact = causal_convolution(inputs, kernel), causal_convolution(inputs.double(), kernel.double())
    assert (found - exact).norm() / exact.norm() < 1e-6


def test_fourier_sizes_are_even_products_of_small_primes():
    for least in (1, 2, 7, 31, 1000, 4095, 4098, 32767):
        size = rest = good_size(least)
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        assert size >= least and size % 2 == 0 and rest == 1
    assert good_size(4098) == 4320


def test_sequences_cover_every_token_once_with_little_padding():
    resets = random_resets(50)
    groups = sequences(resets)
    positions = torch.cat([index[real] for index, real in groups])
    assert torch.equal(positions.sort().values, torch.arange(100))
    assert all((real.sum(1) * 2 >= real.shape[1]).all() for _, real in groups)


@pytest.mark.parametrize(("case", "text"), [
    (Case({"log_decay": "BLHN"}, expand="HN", shrink="HN"), "in time"),
    (Case({"log_decay": "HN"}, expand="HN", shrink="HN", complex=("inputs",)), "complex"),
    (Case({"log_decay": "HN"}, expand="BLHN", shrink="HN", complex=("inputs",)), "complex"),
])  # fmt: skip
def test_what_has_no_kernel_is_refused(case: Case, text: str):
    with pytest.raises(ValueError, match=text):
        call(convolution, case.spec(), Diagonal, case.leaves(3))


@pytest.mark.parametrize("name", ["S4D", "kernel per head", "data-driven read"])
def test_strong_decays_stay_finite_in_float32(name: str):
    assert_strong_decays_stay_finite(convolution, CASES[name])


@pytest.mark.parametrize("name", ["S4D", "kernel per head", "data-driven read"])
def test_precision_does_not_follow_autocast_or_inputs(name: str):
    assert_autocast_is_ignored(convolution, CASES[name])
