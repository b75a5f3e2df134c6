"""Chunked matrix products equal the reference for every decay along N, along P, both or none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lcsm.ops.chunk import loop as chunk_loop
from lcsm.ops.chunk.chunk import chunk
from lcsm.ops.chunk.decay import CHUNK
from lcsm.ops.spec import RecurrenceSpec
from lcsm.structures import LOG_DECAY_FLOOR, Diagonal, rows
from tests.ops.agreement import Case, assert_agrees, assert_splits, call, float32_error, gradients, random_resets

PRIME = 2 * CHUNK + 3
LENGTHS = (1, 2, CHUNK - 1, CHUNK, CHUNK + 1, PRIME)
# half a chunk within the midpoint's range; blocks of 16; blocks of 4; single rows, many at the floor
WEAK, MEDIUM, STRONG, EXTREME = 0.05, 2.0, 8.0, 150.0


@dataclass(frozen=True)
class Undecayed(Case):
    """A declared absence of decay."""

    def spec(self, **changes: Any) -> RecurrenceSpec:
        return replace(super().spec(**changes), decay=None)

    def leaves(self, length: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        return super().leaves(length, dtype) | {"log_decay": torch.zeros(1, 1, 1, 1, 1, dtype=dtype)}


@dataclass(frozen=True, kw_only=True)
class Gated(Diagonal):
    """A structure with a log of its own."""

    gate: Tensor

    def log(self, start: int, stop: int) -> Tensor:
        return (rows(self.log_decay, start, stop) * rows(self.gate, start, stop) ** 2).clamp_min(LOG_DECAY_FLOOR)


CASES = {
    "none": Undecayed({"log_decay": ""}, strength=WEAK),
    "one": Case({"log_decay": ""}, strength=WEAK),
    "RetNet": Case({"log_decay": "H"}, strength=WEAK),
    "Mamba-2": Case({"log_decay": "BLH"}, strength=WEAK),
    "shared by heads": Case({"log_decay": "BL"}, strength=WEAK),
    "constant rows": Case({"log_decay": "HN"}, strength=WEAK),
    "GLA": Case({"log_decay": "BLHN"}, strength=WEAK),
    "step times rows": Case({"log_decay": "HN", "step": "BLH"}, strength=WEAK),
    "constant columns": Case({"log_decay": "HP"}, strength=WEAK),
    "columns": Case({"log_decay": "BLHP"}, strength=WEAK),
    "separable": Case({"log_decay": "BLHN", "columns": "BLHP"}, strength=WEAK),
    "constant separable": Case({"log_decay": "HN", "columns": "HP"}, strength=WEAK),
    "own log": Case({"log_decay": "BLHN", "gate": "H"}, kind=Gated, strength=WEAK),
}
FACTORS = {
    "learned expand": Case({"log_decay": "BLHN"}, expand="HN", strength=WEAK),
    "ones": Case({"log_decay": "BLHN"}, inputs="P", expand="", strength=WEAK),
    "expand constant along N": Case({"log_decay": "BLH"}, expand="BLH", shrink="N", strength=WEAK),
    "expand and shrink along P": Case({"log_decay": "BLHP"}, expand="BLHP", shrink="LP", strength=WEAK),
    "one column": Case({"log_decay": "BLHN"}, size=5, width=1, strength=WEAK),
    "one row": Case({"log_decay": "BLHN"}, size=1, width=5, strength=WEAK),
    "wide": Case({"log_decay": "BLHN", "columns": "LP"}, size=40, width=70, heads=1, strength=WEAK),
}

cases = pytest.mark.parametrize("name", CASES)


@cases
@pytest.mark.parametrize("length", LENGTHS)
def test_equals_the_reference(name: str, length: int):
    assert_agrees(chunk, CASES[name], length)


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("strength", [WEAK, STRONG])
def test_equals_the_reference_for_constant_and_broadcast_factors(name: str, strength: float):
    assert_agrees(chunk, replace(FACTORS[name], strength=strength), CHUNK + 9)


@cases
@pytest.mark.parametrize("strength", [MEDIUM, STRONG, EXTREME])
def test_strong_decays_are_exact(name: str, strength: float):
    assert_agrees(chunk, replace(CASES[name], strength=strength), PRIME)


@cases
@pytest.mark.parametrize("strength", [WEAK, MEDIUM, EXTREME])
def test_segments_do_not_see_each_other(name: str, strength: float):
    assert_agrees(chunk, replace(CASES[name], strength=strength), PRIME, resets=random_resets(PRIME))


@cases
@pytest.mark.parametrize("strength", [WEAK, MEDIUM, EXTREME])
@pytest.mark.parametrize("divided", [False, True], ids=["one segment", "segments"])
def test_exclusive_reads_equal_the_reference(name: str, strength: float, divided: bool):
    resets = random_resets(PRIME) if divided else None
    assert_agrees(chunk, replace(CASES[name], strength=strength), PRIME, resets=resets, exclusive=True)


@cases
@pytest.mark.parametrize("keep", [False, True], ids=["dropped", "kept"])
def test_starts_from_zeros_without_a_memory(name: str, keep: bool):
    assert_agrees(chunk, CASES[name], CHUNK + 1, memory=False, keep=keep)


@cases
def test_one_reset_row_leaves_the_other_rows_alone(name: str):
    resets = torch.zeros(2, PRIME, dtype=torch.bool)
    resets[1, CHUNK] = True
    assert_agrees(chunk, CASES[name], PRIME, resets=resets)


@cases
@pytest.mark.parametrize("at", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1])
def test_splitting_changes_nothing(name: str, at: int):
    assert_splits(chunk, CASES[name], PRIME, at)


@pytest.mark.parametrize("name", ["Mamba-2", "GLA", "columns", "separable", "constant separable"])
def test_splitting_changes_nothing_under_strong_decays(name: str):
    assert_splits(chunk, replace(CASES[name], strength=STRONG), PRIME, 70, exclusive=True)


@pytest.mark.parametrize("name", ["GLA", "columns", "separable", "Mamba-2"])
def test_weak_and_strong_chunks_mix(name: str):
    def alter(case: Case, leaves: dict[str, Tensor]) -> None:
        scale = torch.ones(1, 4 * CHUNK, 1, 1, 1, dtype=torch.float64)
        scale[:, CHUNK : 2 * CHUNK], scale[:, 3 * CHUNK :] = 40, 2000
        leaves["log_decay"] = (leaves["log_decay"].detach() * scale).requires_grad_()

    assert_agrees(chunk, CASES[name], 4 * CHUNK, alter=alter)


@cases
def test_both_forms_of_a_chunk_agree(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chunk_loop, "MIDPOINT_RANGE", -1.0)
    assert_agrees(chunk, CASES[name], PRIME, resets=random_resets(PRIME))


@cases
def test_gradients_of_the_final_memory_alone(name: str):
    leaves = CASES[name].leaves(PRIME)
    found = {}
    for length in (PRIME, 40):
        memory = call(chunk, CASES[name].spec(), CASES[name].kind, leaves, keep=True)[1]
        found[length] = gradients([memory], leaves)
    assert all(value.isfinite().all() for value in found[PRIME].values())
    assert not found[PRIME]["shrink"].any()
    assert found[PRIME]["inputs"].any()


@pytest.mark.parametrize("strength", [WEAK, MEDIUM, EXTREME])
def test_no_output_depends_on_later_tokens(strength: float):
    case = replace(CASES["separable"], strength=strength)
    leaves = case.leaves(PRIME)
    outputs, _ = call(chunk, case.spec(), case.kind, leaves)
    for t in (0, 20, CHUNK - 1, CHUNK, PRIME - 2):
        found = torch.autograd.grad(outputs[:, t].sum(), list(leaves.values()), retain_graph=True)
        assert not any(gradient[:, t + 1 :].any() for gradient in found)


@cases
def test_float32_is_accurate_for_mild_decays(name: str):
    assert float32_error(chunk, replace(CASES[name], size=16, width=16), 300) < 1e-6


@pytest.mark.parametrize("name", [name for name in CASES if name != "none"])
@pytest.mark.parametrize("strength", [1.0, 5.0, 30.0, 300.0])
def test_float32_is_accurate_and_finite_for_strong_decays(name: str, strength: float):
    case = replace(CASES[name], size=16, width=16, strength=strength)
    assert float32_error(chunk, case, 200) < 5e-6
    leaves = case.leaves(200, torch.float32)
    results = [value.double() for value in call(chunk, case.spec(), case.kind, leaves, keep=True)]
    assert all(value.isfinite().all() for value in gradients(results, leaves).values())


@pytest.mark.parametrize("name", ["Mamba-2", "GLA", "columns"])
def test_small_decays_survive_beside_decays_at_the_floor(name: str):
    def alter(case: Case, leaves: dict[str, Tensor]) -> None:
        value = leaves["log_decay"].detach()
        leaves["log_decay"] = torch.where(torch.rand_like(value) < 0.5, -1e4, value).requires_grad_()

    assert_agrees(chunk, CASES[name], PRIME, alter=alter)


def test_autocast_changes_nothing():
    case = CASES["GLA"]
    leaves = case.leaves(PRIME, torch.float32)
    expected = call(chunk, case.spec(), case.kind, leaves)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = call(chunk, case.spec(), case.kind, leaves)[0]
        gradient = torch.autograd.grad(found.sum(), leaves["inputs"])[0]
    assert found.dtype == gradient.dtype == torch.float32
    assert found.equal(expected)
    assert gradient.equal(torch.autograd.grad(expected.sum(), leaves["inputs"])[0])


def test_the_callers_tensors_are_left_alone():
    case = CASES["separable"]
    leaves = case.leaves(PRIME) | {"memory": torch.randn(2, 2, 3, 2, dtype=torch.float64, requires_grad=True)}
    before = {name: value.detach().clone() for name, value in leaves.items()}
    results = call(chunk, case.spec(), case.kind, leaves, keep=True)
    gradients(list(results), leaves)
    assert all(value.equal(before[name]) for name, value in leaves.items())


def test_results_without_gradients_are_the_same():
    case = CASES["GLA"]
    leaves = case.leaves(PRIME)
    expected = call(chunk, case.spec(), case.kind, leaves, keep=True)
    with torch.inference_mode():
        found = call(chunk, case.spec(), case.kind, leaves, keep=True)
    assert all(one.equal(other) for one, other in zip(found, expected, strict=True))


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(CASES)),
    length=st.integers(1, PRIME),
    strength=st.sampled_from([0.0, WEAK, 0.6, MEDIUM, STRONG, EXTREME]),
    exclusive=st.booleans(),
    divided=st.booleans(),
)
def test_any_combination_equals_the_reference(name: str, length: int, strength: float, exclusive: bool, divided: bool):
    resets = torch.rand(2, length) < 0.1 if divided else None
    assert_agrees(chunk, replace(CASES[name], strength=strength), length, resets=resets, exclusive=exclusive)


@pytest.mark.parametrize(
    ("case", "changes", "word"),
    [
        (Case({"log_decay": "HNP"}), {}, "N and P"),
        (Case({"log_decay": "HN"}, expand="HNP"), {}, "N and P"),
        (Case({"log_decay": "HN", "phase": "HN"}), {}, "real decay"),
        (Case({"log_decay": "HN"}, width=1), {"reads": "memory"}, "reads a vector"),
        (Case({"log_decay": "HN"}, complex=("expand",)), {}, "complex"),
    ],
    ids=["decay N x P", "expand N x P", "phase", "memory", "complex expand"],
)
def test_refuses_what_it_does_not_serve(case: Case, changes: dict[str, Any], word: str):
    with pytest.raises(ValueError, match=word) as caught:
        call(chunk, case.spec(**changes), case.kind, case.leaves(4))
    assert "use algorithm=" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("kind", ["dense", "low_rank", "shift"])
def test_refuses_other_kinds(kind: str):
    spec = replace(CASES["GLA"].spec(), kind=kind)
    with pytest.raises(ValueError, match="kind=diagonal"):
        call(chunk, spec, Diagonal, CASES["GLA"].leaves(4))


def test_refuses_shapes_that_the_declaration_hides():
    leaves = CASES["GLA"].leaves(4)
    leaves["log_decay"] = torch.zeros(1, 1, 2, 3, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"\[1, 1, 2, 3, 2\]"):
        call(chunk, CASES["GLA"].spec(), Diagonal, leaves)
