"""Every algorithm equals the reference beyond its longest block: nothing is cut off, forgotten or started anew."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lcsm.ops.chunk import decay as chunk_decay
from lcsm.ops.convolution import low_rank
from lcsm.ops.dense import loop, powers
from lcsm.ops.dispatch import ALGORITHMS, choose_algorithm, fitting
from lcsm.ops.steps import elementwise, lockstep
from lcsm.structures import Delta, Dense, LowRank, Shift
from tests.ops.agreement import B, Case, assert_agrees

LENGTH = 4 * 64 + 5
# what is left of a memory after 256 tokens is between a third and nearly all of it
SLOW = 0.005
WIDE = {"heads": 32, "size": 32, "width": 1, "strength": SLOW}
LOW_RANK = {"log_decay": "HN", "left": "HN", "right": "HN"}
CASES = {
    "no phase": Case({"log_decay": "BLHN", "columns": "BLHP"}, heads=16, size=16, strength=SLOW),
    "several writes": Case(
        {"log_decay": "BLHN", "columns": "BLHP"}, heads=16, size=16, strength=SLOW / 2, settings={"substeps": 2}
    ),
    "several writes that turn": Case(
        {"log_decay": "BLHN", "phase": "BLHN"}, heads=8, size=16, strength=SLOW / 3, settings={"substeps": 3}
    ),
    "one phase per row": Case({"log_decay": "BLHN", "phase": "BLHN"}, heads=8, size=16, strength=SLOW),
    "modes": Case({"log_decay": "HN", "phase": "HN"}, **WIDE),
    "whole memory": Case(
        {"log_decay": "HN", "phase": "HN"}, "", "BLHN", "", complex=("expand",), settings={"reads": "memory"}, **WIDE
    ),
    "one kernel": Case({"log_decay": "HN", "phase": "HN"}, expand="HN", shrink="HN", heads=2, width=1, strength=SLOW),
    "window": Case({}, expand="HN", shrink="HN", kind=Shift, size=2 * LENGTH, width=1),
    "one matrix": Case({"matrix": "H"}, kind=Dense, heads=64, size=4),
    "matrices": Case({"matrix": "BLH"}, kind=Dense),
    "erased": Case(
        {"log_decay": "BLHN", "left": "BLHN", "right": "BLHN", "beta": "BLH"}, kind=Delta,
        heads=16, size=16, strength=SLOW,
    ),
    "one low-rank kernel": Case(LOW_RANK, expand="HN", shrink="HN", kind=LowRank, strength=SLOW),
    # the kernel of so many modes is made by the resolvent
    "one low-rank kernel of many modes": Case(
        LOW_RANK, expand="HN", shrink="HN", kind=LowRank, size=32, strength=SLOW
    ),
}  # fmt: skip
SERVED = [(case, name) for case in CASES for name in fitting(CASES[case].spec()) if name != "reference"]


def lasting(case: Case, leaves: dict[str, Tensor]) -> None:
    """Keep what a memory holds for as many tokens as `SLOW` does, where the decay alone does not say it."""
    if "matrix" in leaves:
        # turns by pi / n, 3 pi / n, ...: gradients of eigenvectors divide by the distance of eigenvalues
        basis = torch.linalg.qr(leaves["matrix"].detach()).Q
        angles = torch.arange(1, case.size, 2).repeat_interleave(2)[: case.size - 1] * torch.pi / case.size
        turn = torch.diag((angles * (torch.arange(case.size - 1) % 2 == 0)).double(), 1)
        turned = basis @ torch.matrix_exp(turn - turn.mT) @ basis.mT
        leaves["matrix"] = ((1 - SLOW) * turned).requires_grad_()
    if "right" in leaves:
        right = F.normalize(leaves["right"].detach(), dim=3)
        leaves["left"], leaves["right"] = (-SLOW * right).requires_grad_(), right.requires_grad_()
    if "beta" in leaves:
        # what is written and what is erased have one direction, as the delta rules have it
        leaves["expand"] = leaves["left"] = right.detach().clone().requires_grad_()
        leaves["beta"] = (SLOW * leaves["beta"].detach().abs()).requires_grad_()


def test_every_algorithm_is_compared():
    assert {name for _, name in SERVED} == {entry.name for entry in ALGORITHMS} - {"reference"}


def test_the_sequence_is_longer_than_two_blocks_of_every_kind():
    row_bytes, modes, rows = CASES["one matrix"].heads * 4 * 8, CASES["modes"], CASES["no phase"]
    blocks = {
        "chunks": chunk_decay.CHUNK,
        "decays made together": chunk_decay.TOGETHER // (B * rows.heads * rows.size),
        "elementwise": elementwise.LONGEST,
        "lockstep": lockstep.cut(10**6, B, modes.heads * modes.size * 16)[0][0][1],
        "loop": loop.STEPS,
        "powers": powers._pieces(10**6, B * row_bytes)[0][1],
        "low rank": low_rank.CHUNK,
    }
    assert {name: steps for name, steps in blocks.items() if 2 * steps >= LENGTH} == {}


@pytest.mark.parametrize("packed", [False, True], ids=["one document", "late resets"])
@pytest.mark.parametrize(("case", "name"), SERVED)
def test_a_long_sequence_equals_the_reference(case: str, name: str, packed: bool):
    # the first row has one document, so that its last tokens see its first
    resets = torch.zeros(B, LENGTH, dtype=torch.bool)
    resets[1, [200, LENGTH - 4]] = True
    # sums over the tokens of what is divided by the distance of a mode from the unit circle, twice in gradients
    tolerance = LENGTH / SLOW**2 * torch.finfo(torch.float64).eps
    options = {"resets": resets if packed else None, "alter": lasting, "tolerance": tolerance}
    algorithm = choose_algorithm(CASES[case].spec(), name).function
    assert_agrees(algorithm, CASES[case], LENGTH, **options)
