"""The penalty is small for few modes, has a gradient, and makes trained kernels need fewer of them."""

import pytest
import torch

from lcsm.conversion.modal import modal
from lcsm.errors import UsageError
from lcsm.models.long_convolutions import find_sites
from lcsm.ops.streaming.base import convolve
from lcsm.tasks.compressible import CompressibleLanguageModelling
from lcsm.tasks.penalty import hankel_penalty, spectral_spread
from tests.conversion.test_model import LAGS, build, tokens

LAGS_SEEN = torch.arange(64, dtype=torch.float64)


def test_the_spread_is_one_for_one_mode_and_large_for_noise():
    spread = spectral_spread(torch.stack([0.9**LAGS_SEEN, 5 * 0.9**LAGS_SEEN, torch.randn(64).double()]))
    torch.testing.assert_close(spread[:2], torch.ones(2).double())
    assert 4 < float(spread[2]) < 32**0.5


def test_the_gradient_is_that_of_finite_differences():
    kernel = torch.randn(2, 20, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(spectral_spread, (kernel,))


def learned(weight: float) -> torch.Tensor:
    """A kernel learned from noisy outputs of a system of order 4."""
    generator = torch.Generator().manual_seed(0)
    truth = (0.9**LAGS_SEEN * (LAGS_SEEN / 3).cos() + 0.8**LAGS_SEEN * (LAGS_SEEN / 2).sin())[:, None]
    x = torch.randn(8, 128, 1, dtype=torch.float64, generator=generator)
    target = convolve(x, truth) + 0.3 * torch.randn(8, 128, 1, dtype=torch.float64, generator=generator)
    taps = torch.zeros(64, 1, dtype=torch.float64).add_(1e-3).requires_grad_()
    optimiser = torch.optim.Adam([taps], lr=0.02)
    for _ in range(300):
        optimiser.zero_grad()
        loss = (convolve(x, taps) - target).square().mean() + weight * spectral_spread(taps.t()).sum()
        loss.backward()
        optimiser.step()
    return taps.detach().t()


def test_the_penalty_reduces_the_order_that_is_needed():
    plain, shaped = (modal(learned(weight), 0.01) for weight in (0.0, 0.05))
    assert float(shaped.errors) <= 0.01 and int(shaped.orders) == 4
    # no recurrence of a smaller order gives the kernel that was learned without it
    assert int(plain.certificate.least) > 8


def test_it_reaches_every_long_convolution_of_a_model():
    _, model = build("model=hyena", "source.order=3", LAGS)
    hankel_penalty(find_sites(model), 32, 4).backward()
    kernels = [parameter for name, parameter in model.named_parameters() if "shrink" in name]
    assert all(parameter.grad is not None and bool(parameter.grad.isfinite().all()) for parameter in kernels)


def test_the_task_adds_it_to_the_loss_of_training_only():
    _, model = build("model=tnn", LAGS)
    x = {"tokens": tokens(20), "targets": tokens(20)}
    losses = [
        float(CompressibleLanguageModelling(model, lambda m: None, weight, 32, 4).training_step(x, 0).detach())
        for weight in (1e-9, 1.0)
    ]
    assert losses[1] > losses[0] + 0.9


@pytest.mark.parametrize(("name", "settings"), [("gla", (1.0, 32, 4)), ("tnn", (0.0, 32, 4)), ("tnn", (1.0, 2, 4))])
def test_it_is_refused_where_it_means_nothing(name: str, settings: tuple):
    _, model = build(f"model={name}")
    with pytest.raises(UsageError, match="task"):
        CompressibleLanguageModelling(model, lambda m: None, *settings)
