"""The reference loop against the recurrence written out for each structure."""

import pytest
import torch

from lcsm.ops.reference import reference
from lcsm.ops.spec import RecurrenceSpec
from lcsm.structures import Dense, Diagonal, LowRank, Shift

B, L, H, N, P = 2, 5, 3, 4, 2
SIZES = {"num_heads": H, "state_dim": N, "value_dim": P}


def spec(kind: str, **changes) -> RecurrenceSpec:
    settings = {"decay": None, "phase": None, "gain": None, "expand": "LHN", "shrink": "LHN", **SIZES, **changes}
    return RecurrenceSpec(kind=kind, **settings)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def transition(structure, t: int) -> torch.Tensor:
    """The [B H N N] matrix that step t applies to every column of the memory."""
    if isinstance(structure, Dense):
        return structure.matrix[:, t]
    if isinstance(structure, Shift):
        return torch.diag(torch.ones(N - 1, dtype=torch.float64), -1).expand(B, H, N, N)
    matrix = torch.diag_embed(structure.log_decay[:, t, :, :, 0].exp())
    if isinstance(structure, LowRank):
        matrix = matrix + structure.left[:, t] @ structure.right[:, t].transpose(-1, -2)
    return matrix


STRUCTURES = {
    "diagonal": lambda: Diagonal(log_decay=-draw(B, L, H, N, 1).abs()),
    "low_rank": lambda: LowRank(
        log_decay=-draw(B, L, H, N, 1).abs(), left=draw(B, L, H, N, 2), right=draw(B, L, H, N, 2)
    ),
    "dense": lambda: Dense(matrix=draw(B, L, H, N, N)),
    "shift": lambda: Shift(),
}


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("kind", STRUCTURES)
def test_recurrence_is_advance_write_read(kind: str, exclusive: bool):
    structure, inputs, expand, shrink = STRUCTURES[kind](), draw(B, L, H, P), draw(B, L, H, N, 1), draw(B, L, H, N, 1)
    memory, expected = draw(B, H, N, P), []
    outputs, final = reference(spec(kind, exclusive=exclusive), structure, inputs, expand, shrink, memory, keep=True)
    for t in range(L):
        before = memory
        memory = transition(structure, t) @ memory + expand[:, t] * inputs[:, t, :, None]
        expected.append((shrink[:, t] * (before if exclusive else memory)).sum(2))
    torch.testing.assert_close(outputs, torch.stack(expected, 1))
    torch.testing.assert_close(final, memory)


def test_phase_turns_and_pairs_double_the_real_part():
    structure = Diagonal(log_decay=-draw(1, 1, H, N, 1).abs(), phase=draw(1, 1, H, N, 1))
    inputs, expand, shrink = draw(B, L, H, P), draw(B, L, H, N, 1), draw(B, L, H, N, 1)
    single, _ = reference(spec("diagonal", phase="HN"), structure, inputs, expand, shrink)
    paired, _ = reference(spec("diagonal", phase="HN", pairs=True), structure, inputs, expand, shrink)
    rate = torch.complex(structure.log_decay, structure.phase)[:, 0]
    last = sum((rate * (L - 1 - s)).exp() * expand[:, s] * inputs[:, s, :, None] for s in range(L))
    torch.testing.assert_close(single[:, -1], (shrink[:, -1] * last).sum(2).real)
    torch.testing.assert_close(paired, 2 * single)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_reset_starts_from_an_empty_memory(kind: str):
    structure, inputs, expand, shrink = STRUCTURES[kind](), draw(B, L, H, P), draw(B, L, H, N, 1), draw(B, L, H, N, 1)
    resets = torch.zeros(B, L, dtype=torch.bool)
    resets[:, 2] = True
    outputs, final = reference(spec(kind), structure, inputs, expand, shrink, draw(B, H, N, P), True, resets)
    alone, end = reference(spec(kind), structure.rows(2, L), inputs[:, 2:], expand[:, 2:], shrink[:, 2:], keep=True)
    torch.testing.assert_close(outputs[:, 2:], alone)
    torch.testing.assert_close(final, end)


def test_substeps_read_after_the_last_write_of_each_token():
    structure = Diagonal(log_decay=torch.zeros(1, 1, 1, 1, 1, dtype=torch.float64))
    inputs, expand, shrink = draw(B, 2 * L, H, P), draw(B, 2 * L, H, N, 1), draw(B, L, H, N, 1)
    outputs, _ = reference(spec("diagonal", substeps=2), structure, inputs, expand, shrink)
    full, _ = reference(spec("diagonal"), structure, inputs, expand, shrink.repeat_interleave(2, 1))
    torch.testing.assert_close(outputs, full[:, 1::2])


def test_shrink_that_reads_the_memory_gets_every_entry():
    structure = Diagonal(log_decay=-draw(B, L, H, N, 1).abs())
    inputs, expand = torch.ones(1, 1, 1, 1, dtype=torch.float64), draw(B, L, H, N, 1)
    reading = spec("diagonal", value_dim=1, reads="memory", shrink="")
    outputs, final = reference(reading, structure, inputs, expand, torch.ones(1, 1, 1, 1, 1), keep=True)
    assert outputs.shape == (B, L, H, N)
    torch.testing.assert_close(outputs[:, -1], final[..., 0])


def test_log_decay_is_floored_where_algorithms_read_it():
    structure = Diagonal(log_decay=torch.full((1, 1, 1, 1, 1), -300.0))
    assert structure.log(0, 1).item() == -80.0


def test_rounded_angles_do_not_add_up_over_constant_steps():
    structure = Diagonal(log_decay=torch.full((1, 1, H, N, 1), -1e-3), phase=4 * torch.rand(1, 1, H, N, 1))
    one = torch.ones(1, 1, 1, 1, 1)
    static = spec("diagonal", decay="HN", phase="HN", expand="", shrink="")
    memory = torch.ones(B, H, N, P, dtype=torch.complex64)
    for _ in range(2000):
        _, memory = reference(static, structure, torch.zeros(B, 1, H, P), one, one, memory, keep=True)
    wide = structure.map(torch.Tensor.double)
    expected = torch.polar((2000 * wide.log_decay).exp(), 2000 * wide.phase)[0].expand_as(memory)
    assert memory.dtype == torch.complex64
    assert (memory - expected).abs().max() < 1e-5 * expected.abs().max()
