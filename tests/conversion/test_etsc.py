"""The closed form: exact within its lags, known images beyond, at or below the errors of the released form."""

import pytest
import torch

from lcsm.conversion.etsc import etsc, fading_radius, reference_etsc, reference_outputs, rounding_etsc
from lcsm.conversion.system import ModalSystem, relative_error, rounded_error
from lcsm.errors import UsageError
from lcsm.ops.streaming.base import convolve
from tests.ops.streaming.test_streams import streamed

EPSILON = torch.finfo(torch.float32).eps


def relative(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Distance relative to what is exact, in the 2-norm."""
    return float((found - exact).norm() / exact.norm())


def kernel(length: int, channels: int = 3) -> torch.Tensor:
    return torch.randn(channels, length, dtype=torch.float64)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 65])
@pytest.mark.parametrize("roots", ["odd", "all"])
@pytest.mark.parametrize("radius", [1.0, 0.97])
def test_all_lags_are_exact(length: int, roots: str, radius: float):
    taps = kernel(length)
    torch.testing.assert_close(etsc(taps, roots, radius).kernel(length), taps, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("length", [2, 8, 64])
def test_odd_roots_of_an_even_number_of_lags_are_half_as_many_pairs(length: int):
    system = etsc(kernel(length), "odd")
    assert system.eigenvalues.shape[1] == length // 2
    assert bool((system.eigenvalues.imag > 0).all()) and system.orders().tolist() == [length] * 3


@pytest.mark.parametrize(("roots", "sign"), [("odd", -1), ("all", 1)])
@pytest.mark.parametrize("radius", [1.0, 0.9])
def test_the_kernel_returns_damped_after_its_lags(roots: str, sign: int, radius: float):
    taps = kernel(20)
    found = etsc(taps, roots, radius).kernel(40)[:, 20:]
    torch.testing.assert_close(found, sign * radius**20 * taps, rtol=1e-10, atol=1e-12)


def test_more_roots_give_zeros_until_they_are_used_up():
    taps = kernel(10)
    found = etsc(taps, "odd", length=30).kernel(40)
    torch.testing.assert_close(found[:, :10], taps, rtol=1e-11, atol=1e-12)
    assert found[:, 10:30].abs().max() < 1e-13
    torch.testing.assert_close(found[:, 30:], -taps, rtol=1e-11, atol=1e-12)


def test_the_released_form_is_the_same_kernel_with_a_pad():
    taps, gamma = kernel(16), 0.95
    values, weights = reference_etsc(taps, gamma)
    impulse = torch.zeros(1, 33, 3, dtype=torch.float64)
    impulse[:, 0] = 1
    padded = torch.cat([taps, -taps.sum(1, keepdim=True)], 1)
    expected = gamma ** torch.arange(33.0).double() * torch.cat([padded, padded], 1)[:, :33]
    torch.testing.assert_close(reference_outputs(values, weights, impulse)[0].t(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_the_rounded_recurrence_is_more_exact_than_the_released_one(kind: str):
    taps = torch.randn(3, 512) if kind == "normal" else 10 * torch.rand(3, 512)
    x = torch.randn(1, 512, 3)
    exact = convolve(x.double(), taps.double().t())
    ours = streamed(rounding_etsc(taps).rounded().stream(), x)
    released = reference_outputs(*reference_etsc(taps, 1.0), x)
    errors = [relative(found, exact) for found in (ours, released)]
    # the kernel is off by j times the rounding of an eigenvalue at lag j, which the sums over 512 tokens average
    assert errors[0] < 512 / 6**0.5 * EPSILON / 2 and errors[1] > 3 * errors[0]


def test_a_stream_that_keeps_what_rounding_takes_is_more_exact():
    taps, x = torch.randn(3, 512), torch.randn(1, 512, 3)
    exact, system = convolve(x.double(), taps.double().t()), etsc(taps, "odd")
    kept, rounded = (relative(streamed(each.stream(), x), exact) for each in (system, system.rounded()))
    # what is left: an epsilon of every mode at each of 512 steps, of either sign; two for the two parts
    assert kept < 2 * 512**0.5 * EPSILON and kept < rounded / 2


def test_a_large_mean_is_a_mode_of_its_own():
    taps = torch.stack([10 + torch.rand(256), torch.randn(256)])
    system = rounding_etsc(taps)
    errors = [rounded_error(each, taps)[0] for each in (system, etsc(taps, "odd", fading_radius(taps)))]
    assert errors[0] < 0.8 * errors[1] and bool((system.eigenvalues[0].imag == 0).any())
    torch.testing.assert_close(system.kernel(256), taps.double(), rtol=1e-9, atol=1e-9)


def test_rounding_leaves_no_eigenvalue_outside_the_unit_disc():
    angles = torch.rand(1, 20000, dtype=torch.float64) * 3.2
    values = torch.polar(torch.ones_like(angles), angles)
    system = ModalSystem(torch.zeros(1, 0), values, torch.ones_like(values)).rounded()
    modulus = system.eigenvalues.to(torch.complex128).abs()
    assert float(values.to(torch.complex64).to(torch.complex128).abs().max()) > 1
    assert float(modulus.max()) <= 1 and float(modulus.min()) > 1 - 3e-7


def test_the_fading_radius_follows_the_decay():
    lags = torch.arange(512)
    radius = fading_radius(torch.randn(4, 512) * 0.99**lags)
    assert bool(((radius > 0.985) & (radius < 0.996)).all())
    taps = torch.randn(4, 512)
    errors = relative_error(etsc(taps, "odd", fading_radius(taps)).rounded().kernel(512), taps)
    # j times the rounding of an eigenvalue at lag j
    assert bool((errors < 512 / 3**0.5 * EPSILON / 2).all())


@pytest.mark.parametrize("settings", [{"length": 3}, {"radius": 1.5}, {"radius": 0.0}])
def test_impossible_settings_are_refused(settings: dict):
    with pytest.raises(UsageError, match=next(iter(settings))):
        etsc(kernel(4), **settings)
