"""The chunked delta rule equals the reference."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lcsm.ops.chunk.decay import CHUNK
from lcsm.ops.delta import loop as loop
from lcsm.ops.delta.chunk import inverted
from lcsm.ops.delta.delta import delta
from lcsm.ops.dispatch import fitting
from lcsm.ops.reference import reference
from lcsm.ops.rotate import rotate
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.steps.elementwise import elementwise
from lcsm.ops.steps.lockstep import lockstep
from lcsm.ops.steps.scan import scan
from lcsm.structures import Delta, LowRank
from tests.ops.agreement import call, gradients, random_resets

B, H, N, P = 2, 2, 5, 3
DECAYS = {None: (1, 1, 1, 1), "H": (1, 1, H, 1), "LH": (B, None, H, 1), "LHN": (B, None, H, N)}
# An epsilon of the memory at each of 200 steps, of either sign, which a memory that cannot grow carries on: 1.7e-6.
ROUNDINGS = 200**0.5 * torch.finfo(torch.float32).eps
Leaves = dict[str, Tensor]
DELTA: dict[str, Any] = {"kind": "low_rank", "gain": "LH", "num_heads": H, "state_dim": N, "value_dim": P}


def spec(decay: str | None, **changes: Any) -> RecurrenceSpec:
    return RecurrenceSpec(**DELTA, decay=decay, expand="LHN", shrink="LHN", **changes)


def leaves_of(
    decay: str | None,
    tied: bool,
    length: int,
    substeps: int = 1,
    range_: float = 0.3,
    dtype: torch.dtype = torch.float64,
) -> Leaves:
    """Every tensor of a call, by name; the erased direction is the written one where they are tied."""
    steps = length * substeps
    unit = [F.normalize(torch.randn(B, steps, H, N, 1, dtype=dtype), dim=3) for _ in range(3)]
    shape = [steps if size is None else size for size in DECAYS[decay]]
    log_decay = -torch.randn(*shape, 1, dtype=dtype).abs() * (range_ if decay is not None else 0)
    found = {
        "inputs": torch.randn(B, steps, H, P, dtype=dtype),
        "expand": unit[0],
        "shrink": torch.randn(B, length, H, N, 1, dtype=dtype),
        "memory": torch.randn(B, H, N, P, dtype=dtype),
        "log_decay": log_decay,
        "right": unit[1],
    }
    if tied:
        found["beta"] = 2 * torch.rand(B, steps, H, 1, 1, dtype=dtype)
    else:
        found["left"] = -unit[2]
    found = {name: value.requires_grad_(name != "log_decay" or decay is not None) for name, value in found.items()}
    return found | ({"left": found["expand"]} if tied else {})


def contracting(leaves: Leaves) -> Leaves:
    """What is erased is what is found along the key after the decay, so that the memory cannot grow."""
    right = leaves["expand"] * leaves["log_decay"].clamp_min(-80).exp()
    return leaves | {"right": right.detach().requires_grad_()}


def float32_error(leaves: Leaves, decay: str | None) -> float:
    wide = {name: value.detach().double() for name, value in leaves.items()}
    expected, _ = call(reference, spec(decay), Delta, wide)
    found, _ = call(delta, spec(decay), Delta, leaves)
    return float((found.detach() - expected).norm() / expected.norm())


def assert_agrees(leaves: Leaves, declared: RecurrenceSpec, resets: Tensor | None = None, keep: bool = True) -> None:
    kind, results = Delta if "beta" in leaves else LowRank, {}
    for function in (delta, reference):
        outputs, final = call(function, declared, kind, leaves, keep=keep, resets=resets)
        assert (final is not None) == keep
        parts = [outputs] if final is None else [outputs, final]
        results[function.__name__] = {"outputs": outputs, "final": final, **gradients(parts, leaves)}
    for name, expected in results["reference"].items():
        if expected is not None:
            message = lambda text, name=name: f"{name}: {text}"  # noqa: E731
            torch.testing.assert_close(results["delta"][name], expected, rtol=1e-9, atol=1e-9, msg=message)


@pytest.mark.parametrize("length", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 151])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "free"])
@pytest.mark.parametrize("decay", DECAYS)
def test_equals_the_reference(decay: str | None, tied: bool, length: int):
    assert_agrees(leaves_of(decay, tied, length), spec(decay))


@pytest.mark.parametrize("range_", [0.3, 2.0, 8.0, 300.0])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "free"])
@pytest.mark.parametrize("decay", ["LH", "LHN", "H"])
def test_decays_of_any_strength_equal_the_reference(decay: str, tied: bool, range_: float):
    length = CHUNK + 13
    assert_agrees(leaves_of(decay, tied, length, range_=range_), spec(decay), random_resets(length))


@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("substeps", [1, 2, 3])
@pytest.mark.parametrize(("decay", "range_"), [(None, 0.0), ("LH", 0.3), ("LHN", 0.3), ("LHN", 8.0)])
def test_substeps_exclusive_reads_and_resets_equal_the_reference(
    decay: str | None, range_: float, substeps: int, exclusive: bool
):
    leaves = leaves_of(decay, substeps != 2, 37, substeps, range_)
    assert_agrees(leaves, spec(decay, substeps=substeps, exclusive=exclusive), random_resets(37))


@pytest.mark.parametrize("resets", [False, True], ids=["one row", "packed"])
def test_blank_memory_and_no_final_memory_equal_the_reference(resets: bool):
    leaves = leaves_of("LH", True, 70)
    del leaves["memory"]
    assert_agrees(leaves, spec("LH"), random_resets(70) if resets else None, keep=False)


@pytest.mark.parametrize("substeps", [1, 2])
@pytest.mark.parametrize("cut", [1, 40, CHUNK])
def test_a_split_sequence_changes_nothing(cut: int, substeps: int):
    leaves, declared = leaves_of("LHN", True, 101, substeps), spec("LHN", substeps=substeps)
    whole, final = call(delta, declared, Delta, leaves, keep=True)
    memory, outputs = leaves["memory"], []
    for span in (slice(0, cut), slice(cut, 101)):
        steps = slice(span.start * substeps, span.stop * substeps)
        piece = {name: value[:, steps] for name, value in leaves.items() if name != "memory"}
        piece |= {"memory": memory, "shrink": leaves["shrink"][:, span]}
        piece["left"] = piece["expand"]
        output, memory = call(delta, declared, Delta, piece, keep=True)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, 1), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(memory, final, rtol=1e-12, atol=1e-12)


def test_an_erased_direction_of_its_own_and_the_written_one_give_the_same():
    leaves = leaves_of("LHN", True, 70)
    tied = call(delta, spec("LHN"), Delta, leaves)[0]
    apart = call(delta, spec("LHN"), Delta, leaves | {"left": leaves["expand"].clone()})[0]
    torch.testing.assert_close(apart, tied, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("decay", ["LH", "LHN"])
@pytest.mark.parametrize("range_", [0.1, 1.0, 30.0, 300.0])
def test_float32_stays_finite_and_close_to_float64(decay: str, range_: float):
    leaves = contracting(leaves_of(decay, True, 200, range_=range_, dtype=torch.float32))
    assert float32_error(leaves, decay) < ROUNDINGS
    results = [value for value in call(delta, spec(decay), Delta, leaves, keep=True) if value is not None]
    assert all(value.isfinite().all() for value in gradients(results, leaves).values())


def test_a_hard_reset_beside_slow_decays_costs_no_digits():
    leaves = leaves_of("LHN", True, 200, dtype=torch.float32)
    leaves["log_decay"] = torch.where(torch.rand(B, 200, H, N, 1) < 0.05, -300.0, -0.01)
    assert float32_error(contracting(leaves), "LHN") < ROUNDINGS


@pytest.mark.parametrize("strength", [1.0, 1.99])
def test_inverse_is_exact_where_all_keys_are_equal(strength: float):
    lower = torch.full((3, CHUNK, CHUNK), strength).tril(-1)
    matrix, found = lower.double() + torch.eye(CHUNK), inverted(lower).double()
    # substitution, in any order of its sums, solves a system whose entries are off by CHUNK / 2 eps of themselves
    # (Higham 2002, theorem 8.5); the sums of a Neumann series would be off by their binomial coefficients
    bound = CHUNK / 2 * torch.finfo(torch.float32).eps * (matrix.abs() @ found.abs())
    assert ((matrix @ found - torch.eye(CHUNK)).abs() <= bound).all()


def test_nothing_is_kept_of_the_length_squared(monkeypatch: pytest.MonkeyPatch):
    saved: list[int] = []
    leaves = leaves_of("LHN", True, 1000)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        call(delta, spec("LHN"), Delta, leaves)
    assert max(saved) <= B * 1000 * H * max(N, P)
    assert len(saved) < 20 * len(loop.DeltaPlan(1000, None, None, False).spans)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"phase": "LHN"}, "real memory"),
        ({"reads": "memory", "value_dim": 1}, "vector"),
        ({"kind": "diagonal"}, "low_rank"),
    ],
)
def test_other_problems_are_refused(changes: dict[str, Any], rule: str):
    settings = {**vars(spec("LHN")), **changes}
    with pytest.raises(ValueError, match=rule):
        call(delta, RecurrenceSpec(**settings), Delta, leaves_of("LHN", True, 3))


def test_a_rank_above_one_and_a_decay_of_columns_are_refused():
    leaves = leaves_of("LHN", False, 3)
    with pytest.raises(ValueError, match="rank 1"):
        call(
            delta,
            spec("LHN"),
            LowRank,
            leaves | {"right": torch.randn(B, 3, H, N, 2), "left": torch.randn(B, 3, H, N, 2)},
        )
    with pytest.raises(ValueError, match="along N"):
        call(delta, spec("LHP"), LowRank, leaves | {"log_decay": -torch.rand(B, 3, H, 1, P)})


def test_dispatch_offers_it_for_data_driven_low_rank_oscillations():
    assert fitting(spec("LHN")) == ("delta", "reference")
    assert fitting(spec(None, substeps=2)) == ("delta", "reference")
    constant = RecurrenceSpec(**DELTA, decay="HN", expand="HN", shrink="HN")
    assert fitting(constant) == ("delta", "reference")
    assert fitting(RecurrenceSpec(**{**vars(constant), "gain": None})) == ("convolution", "reference")


@pytest.mark.parametrize("algorithm", [elementwise, scan, lockstep, rotate], ids=lambda function: function.__name__)
def test_algorithms_of_a_diagonal_refuse_what_a_low_rank_term_would_add(algorithm: Callable[..., Any]):
    settings = {**vars(spec("LHN")), "kind": "diagonal"}
    with pytest.raises(ValueError, match=f"algorithm={algorithm.__name__} needs a Diagonal, but received Delta"):
        call(algorithm, RecurrenceSpec(**settings), Delta, leaves_of("LHN", True, 3))
