"""Kernel and memory of constant low-rank systems, by the resolvent and by powers, against the reference loop."""

from dataclasses import replace

import pytest
import torch

from lcsm.ops.convolution import resolvent, step_powers
from lcsm.ops.convolution.convolution import convolution
from lcsm.ops.reference import reference
from lcsm.ops.spec import RecurrenceSpec
from lcsm.structures import LowRank
from tests.ops.test_reference import draw

B, H, N, P = 2, 3, 4, 2
KINDS = ("pairs", "complex", "real")


def complex_draw(*shape: int) -> torch.Tensor:
    return torch.complex(draw(*shape), draw(*shape))


def system(kind: str, rank: int = 1) -> tuple[RecurrenceSpec, LowRank, torch.Tensor, torch.Tensor]:
    """A spec, a stable structure, and constant directions of write and read."""
    value = draw if kind == "real" else complex_draw
    vectors = [0.2 * value(1, 1, H, N, rank) for _ in range(2)]
    phase = None if kind == "real" else draw(1, 1, H, N, 1)
    structure = LowRank(log_decay=-draw(1, 1, H, N, 1).abs() - 0.6, phase=phase, left=vectors[0], right=vectors[1])
    spec = RecurrenceSpec(
        kind="low_rank",
        decay="HN",
        phase=None if kind == "real" else "HN",
        expand="HN",
        shrink="HN",
        num_heads=H,
        state_dim=N,
        value_dim=P,
        pairs=kind == "pairs",
    )
    return spec, structure, value(1, 1, H, N, 1), value(1, 1, H, N, 1)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ways", [resolvent, step_powers])
@pytest.mark.parametrize("length", [1, 2, 7, 64, 65])
def test_kernel_is_the_response_to_an_impulse(ways, kind: str, rank: int, length: int):
    spec, structure, expand, shrink = system(kind, rank)
    impulse = torch.zeros(1, length, H, 1, dtype=torch.float64)
    impulse[:, 0] = 1
    expected, _ = reference(spec, structure, impulse, expand, shrink)
    found = ways.kernel(structure, expand, shrink, length, spec.pairs)
    torch.testing.assert_close(found, expected[0, :, :, 0].T, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 131])
def test_convolution_agrees_with_the_reference(length: int, kind: str, exclusive: bool):
    spec, structure, expand, shrink = system(kind)
    spec = replace(spec, exclusive=exclusive)
    memory = (draw if kind == "real" else complex_draw)(B, H, N, P)
    leaves = [draw(B, length, H, P), expand, shrink, memory, structure.left, structure.right, structure.log_decay]
    found = []
    for algorithm in (reference, convolution):
        inputs, write, read, start, left, right, log = (leaf.clone().requires_grad_() for leaf in leaves)
        moved = replace(structure, left=left, right=right, log_decay=log)
        outputs, final = algorithm(spec, moved, inputs, write, read, start, keep=True)
        loss = (outputs * outputs.detach().cos()).sum() + final.abs().square().sum()
        wanted = (inputs, write, read, start, left, right, log)
        found.append([outputs, final, *torch.autograd.grad(loss, wanted)])
    for ours, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-9)


def test_single_precision_kernel_keeps_six_digits():
    _, structure, expand, shrink = system("pairs")
    exact = resolvent.kernel(structure, expand, shrink, 500, True)
    single = structure.map(lambda value: value.to(torch.complex64 if value.is_complex() else torch.float32))
    found = resolvent.kernel(single, expand.to(torch.complex64), shrink.to(torch.complex64), 500, True)
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() <= 2e-6 * exact.abs().max()


def test_long_memory_does_not_come_back_in_the_kernel():
    _, structure, expand, shrink = system("pairs")
    slow = replace(structure, log_decay=torch.full_like(structure.log_decay, -1e-6), left=0 * structure.left)
    found = resolvent.kernel(slow, expand, shrink, 32, True)
    longer = resolvent.kernel(slow, expand, shrink, 300, True)
    torch.testing.assert_close(found, longer[:, :32], rtol=1e-9, atol=1e-9)
