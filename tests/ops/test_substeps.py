"""Every algorithm that takes several writes per token equals the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lcsm.ops.chunk.chunk import chunk
from lcsm.ops.chunk.decay import CHUNK
from lcsm.ops.dispatch import ALGORITHMS, choose_algorithm, fitting
from lcsm.ops.reference import reference
from lcsm.ops.rotate import rotate
from lcsm.structures import Dense, Diagonal
from tests.ops.agreement import Case, assert_agrees, assert_splits, call, float32_error, random_resets

TWO = {"substeps": 2}
CASES = {
    "scalar": Case({"log_decay": "BLH"}, settings=TWO),
    "constant": Case({"log_decay": "H"}, settings=TWO),
    "rows": Case({"log_decay": "BLHN"}, settings={"substeps": 3}),
    "separable": Case({"log_decay": "BLHN", "columns": "BLHP"}, settings=TWO),
    "strong": Case({"log_decay": "BLHN"}, strength=30.0, settings=TWO),
    "constant factors": Case({"log_decay": "BLHN"}, inputs="HP", expand="HN", shrink="HN", settings=TWO),
    "expand and shrink along P": Case({"log_decay": "BLHP"}, expand="BLHP", shrink="LP", settings=TWO),
    "turning": Case({"log_decay": "BLHN", "phase": "BLHN"}, settings=TWO),
    "turning alike": Case({"log_decay": "BLH", "phase": "N"}, settings={"substeps": 3}),
    "complex, in pairs": Case(
        {"log_decay": "HN", "phase": "BLHN"}, complex=("expand", "shrink"), settings={"pairs": True, **TWO}
    ),
    "every entry": Case({"log_decay": "BLHNP"}, settings=TWO),
    "modes": Case({"log_decay": "HN", "phase": "HN"}, width=1, settings=TWO),
    "constant modes": Case({"log_decay": "HN", "phase": "HN"}, expand="HN", shrink="HN", width=1, settings=TWO),
    "one matrix": Case({"matrix": "H"}, kind=Dense, settings=TWO),
    "matrices": Case({"matrix": "BLH"}, kind=Dense, settings=TWO),
    "whole memory": Case(
        {"log_decay": "HN", "phase": "HN"}, "BLHP", "", "", width=1, settings={"reads": "memory", **TWO}
    ),
}  # fmt: skip
SERVED = [(case, name) for case in CASES for name in fitting(CASES[case].spec()) if name != "reference"]
served = pytest.mark.parametrize(("case", "name"), SERVED)


def algorithm(case: str, name: str) -> Any:
    return choose_algorithm(CASES[case].spec(), name).function


def test_every_algorithm_takes_several_writes():
    # those of delta are in its own test, as its memory must not grow
    assert {name for _, name in SERVED} == {entry.name for entry in ALGORITHMS} - {"reference", "delta"}


@served
@pytest.mark.parametrize("length", [1, 2, CHUNK // 2, CHUNK + 1])
def test_equals_the_reference(case: str, name: str, length: int):
    assert_agrees(algorithm(case, name), CASES[case], length)


@served
@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("memory", [False, True], ids=["blank", "memory"])
def test_exclusive_reads_and_packed_documents_equal_the_reference(case: str, name: str, memory: bool, exclusive: bool):
    resets = random_resets(45)
    assert_agrees(
        algorithm(case, name), CASES[case], 45, memory=memory, keep=memory, resets=resets, exclusive=exclusive
    )


@served
@pytest.mark.parametrize("at", [1, CHUNK // 2, 50])
def test_a_split_between_any_two_tokens_changes_nothing(case: str, name: str, at: int):
    assert_splits(algorithm(case, name), replace(CASES[case], strength=0.3), 70, at)


@pytest.mark.parametrize(("case", "name"), [("rows", "chunk"), ("turning", "rotate")])
def test_float32_error_is_small(case: str, name: str):
    assert float32_error(algorithm(case, name), CASES[case], 200) < 1e-6


@pytest.mark.parametrize("function", [chunk, rotate], ids=["chunk", "rotate"])
def test_a_trapezoidal_write_is_two_writes_of_neighbouring_tokens(function: Any):
    # memory_t = decay_t (memory_{t-1} + before_t key_{t-1} value_{t-1}^T) + now_t key_t value_t^T
    turns = {} if function is chunk else {"phase": "BLHN"}
    case = Case({"log_decay": "BLH", **turns}, settings=TWO)
    length, leaves = CHUNK + 5, {name: value.detach() for name, value in case.leaves(CHUNK + 5).items()}
    key, value = leaves["expand"][:, 1::2], leaves["inputs"][:, 1::2]
    before, now = torch.rand(2, 2, length, 2, 1, 1, dtype=torch.float64)
    factor = leaves["log_decay"][:, ::2].exp().to(torch.complex128 if turns else torch.float64)
    if turns:
        factor = factor * torch.polar(torch.ones_like(leaves["phase"][:, ::2]), leaves["phase"][:, ::2])

    def pairs(first: Tensor, second: Tensor) -> Tensor:
        return torch.stack([first, second], 2).flatten(1, 2)

    def delayed(values: Tensor) -> Tensor:
        return F.pad(values[:, :-1], (0, 0) * (values.ndim - 2) + (1, 0))

    # the write of the token before comes first and decays with the memory
    still = torch.zeros_like(leaves["log_decay"][:, ::2])
    leaves["log_decay"] = pairs(still, leaves["log_decay"][:, ::2])
    leaves["expand"] = pairs(before * delayed(key), now * key)
    leaves["inputs"] = pairs(delayed(value), value)
    if turns:
        leaves["phase"] = pairs(torch.zeros_like(leaves["phase"][:, ::2]), leaves["phase"][:, ::2])
    found, final = call(function, case.spec(), Diagonal, leaves, keep=True)

    memory, expected = torch.zeros(2, 2, 3, 2, dtype=factor.dtype), []
    for t in range(length):
        if t:
            memory = memory + before[:, t] * key[:, t - 1] * value[:, t - 1, :, None]
        memory = factor[:, t] * memory + now[:, t] * key[:, t] * value[:, t, :, None]
        expected.append((leaves["shrink"][:, t] * memory).sum(2).real)
    torch.testing.assert_close(found, torch.stack(expected, 1))
    torch.testing.assert_close(final, memory)
    torch.testing.assert_close(found, call(reference, case.spec(), Diagonal, leaves)[0])
