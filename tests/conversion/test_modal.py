"""Fits find the orders of known systems, never below what is possible, and taps take what modes cannot."""

import pytest
import torch

from lcsm.conversion.choose import convert_kernel
from lcsm.conversion.hybrid import hybrid, work
from lcsm.conversion.modal import modal
from lcsm.errors import UsageError
from lcsm.ops.hankel import hankel, least_order, lower_bound, rows_of, spectrum

LAGS = torch.arange(256, dtype=torch.float64)


def cosines(order: int, channels: int = 4) -> torch.Tensor:
    """Sums of damped cosines: systems of a known order."""
    rates = 0.95 * torch.exp(1j * (0.2 + 2.5 * torch.rand(channels, order // 2, dtype=torch.float64)))
    weights = torch.randn(channels, order // 2, dtype=torch.complex128)
    return (weights[..., None] * rates[..., None] ** LAGS).sum(1).real


def smooth() -> torch.Tensor:
    return (0.99**LAGS * (1 + (LAGS / 40).sin()) / (1 + LAGS / 100))[None]


def test_damped_cosines_need_twice_their_number():
    fit = modal(cosines(12), 1e-6)
    assert fit.orders.tolist() == [12] * 4 and fit.certificate.least.tolist() == [12] * 4
    assert float(fit.errors.max()) < 1e-6 and fit.system.state_size() == 1 + 12


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3, 1e-4])
def test_the_certificate_is_never_above_the_achieved_error(tolerance: float):
    for kernel in (smooth(), cosines(20), torch.randn(3, 256, dtype=torch.float64) * 0.95**LAGS):
        fit = modal(kernel, tolerance)
        bound = lower_bound(fit.certificate.values, fit.certificate.rows)
        orders = fit.orders.clamp_max(bound.shape[1] - 1)
        least = bound.gather(1, orders[:, None])[:, 0] / kernel.norm(dim=1)
        assert bool((fit.errors >= least * (1 - 1e-6)).all())
        assert bool((fit.orders >= fit.certificate.least)[fit.errors <= tolerance].all())


def test_orders_grow_with_the_precision_that_is_asked_for():
    orders = [int(modal(smooth(), tolerance).orders) for tolerance in (1e-2, 1e-3, 1e-4, 1e-5)]
    assert orders == sorted(orders) and orders[0] < orders[-1] < 12


def test_projected_spectra_agree_with_dense_ones_and_are_never_above():
    lags = torch.arange(1601, dtype=torch.float64)
    kernel = torch.stack([0.99**lags * (lags / 30).cos() / (1 + lags / 50), 0.995**lags / (1 + lags)])
    dense = torch.linalg.svdvals(hankel(kernel))[:, :40]
    found = spectrum(kernel, 40)
    assert found.values.shape[1] < rows_of(1601)
    torch.testing.assert_close(found.values[:, :20], dense[:, :20], rtol=1e-8, atol=1e-12)
    assert bool((found.values[:, :40] <= dense * (1 + 1e-9) + 1e-14).all())


def test_the_least_order_is_the_rank_of_the_hankel_matrix():
    found = spectrum(cosines(8), 20)
    assert least_order(found.values, found.rows, torch.full((4,), 1e-7)).tolist() == [8] * 4


def test_taps_take_a_spike_that_modes_cannot():
    kernel = smooth().repeat(3, 1)
    kernel[:, :16] += torch.randn(3, 16, dtype=torch.float64)
    alone, both = modal(kernel, 1e-4), hybrid(kernel, 1e-4)
    assert float(both.errors.max()) <= 1e-4 and both.system.taps.shape[1] == 16
    assert int(both.orders.max()) < int(alone.orders.max()) and work(both.system) < work(alone.system)


def test_auto_takes_the_least_work_and_etsc_where_nothing_is_compressible():
    assert convert_kernel(cosines(4), "auto", 1e-4, 64).method == "modal"
    white = convert_kernel(torch.randn(2, 128), "auto", 1e-4, 64)
    assert white.method == "etsc" and float(white.fit.errors.max()) < 1e-5


@pytest.mark.parametrize("method", ["modal", "hybrid"])
def test_a_missed_tolerance_says_what_is_impossible(method: str):
    with pytest.raises(UsageError, match="no recurrence below"):
        convert_kernel(torch.randn(2, 128), method, 1e-4, 32)


@pytest.mark.parametrize(("method", "tolerance"), [("best", 1e-4), ("modal", 0.0)])
def test_impossible_settings_are_refused(method: str, tolerance: float):
    with pytest.raises(UsageError, match="method" if method == "best" else "tolerance"):
        convert_kernel(torch.randn(2, 16), method, tolerance, 32)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("method", ["etsc", "auto"])
def test_very_short_and_empty_kernels_are_converted(length: int, method: str):
    kernel = torch.cat([torch.zeros(1, length), torch.ones(1, length), torch.randn(1, length)])
    choice = convert_kernel(kernel, method, 1e-4, 32)
    torch.testing.assert_close(choice.fit.system.kernel(length), kernel.double(), rtol=1e-3, atol=1e-6)
