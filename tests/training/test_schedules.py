"""Learning-rate schedules."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from lcsm.errors import UsageError
from lcsm.training.schedules import Constant, Cosine, InverseSquareRoot


def test_the_warm_up_rises_linearly_to_the_full_rate() -> None:
    for schedule in (Constant(4), Cosine(4, final_fraction=0.1, max_steps=20), InverseSquareRoot(4)):
        assert [schedule(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_a_cosine_ends_at_its_fraction_and_stays() -> None:
    schedule = Cosine(10, final_fraction=0.2, max_steps=110)
    assert schedule(10) == 1.0 and schedule(60) == pytest.approx(0.6)
    assert schedule(110) == pytest.approx(0.2) and schedule(1000) == pytest.approx(0.2)


@pytest.mark.parametrize("steps", [20, 50, 400])
def test_a_cosine_of_a_run_that_time_ends_is_that_of_as_many_steps(steps: int) -> None:
    timed, counted = (
        Cosine(10, final_fraction=0.1, max_steps=1000, max_time="00:00:01:40"),
        Cosine(10, final_fraction=0.1, max_steps=steps),
    )
    for step in range(steps + 1):
        timed.elapsed = 100 * step / steps
        assert timed(step) == pytest.approx(counted(step))


def test_a_cosine_ends_with_its_steps_where_they_end_before_the_time() -> None:
    timed, counted = (
        Cosine(10, final_fraction=0.1, max_steps=100, max_time="00:01:00:00"),
        Cosine(10, final_fraction=0.1, max_steps=100),
    )
    timed.elapsed = 3.0
    assert [timed(step) for step in range(120)] == [counted(step) for step in range(120)]


def test_an_inverse_root_halves_after_four_times_the_steps() -> None:
    schedule = InverseSquareRoot(100)
    assert schedule(99) == 1.0 and schedule(399) == 0.5 and schedule(9999) == pytest.approx(math.sqrt(0.01))


def test_a_warm_up_that_is_too_long_ends_with_the_run() -> None:
    assert [Cosine(50, final_fraction=0.1, max_steps=4)(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_the_state_is_plain_and_restores_the_curve() -> None:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    state = LambdaLR(optimiser, Cosine(3, final_fraction=0.1, max_steps=30)).state_dict()
    assert state["lr_lambdas"] == [{"warmup_steps": 3, "final_fraction": 0.1, "max_steps": 30, "max_seconds": None}]
    assert pickle.loads(pickle.dumps(Cosine(3, final_fraction=0.1, max_steps=30)))(17) == Cosine(
        3, final_fraction=0.1, max_steps=30
    )(17)


@pytest.mark.parametrize("arguments", [(-1, 0.1, 10), (0, 1.5, 10), (0, 0.1, 0)])
def test_illegal_settings_are_refused(arguments: tuple[int, float, int]) -> None:
    with pytest.raises(UsageError, match="schedule\\."):
        Cosine(arguments[0], final_fraction=arguments[1], max_steps=arguments[2])
    with pytest.raises(UsageError, match="at least 1"):
        InverseSquareRoot(0)
    with pytest.raises(UsageError, match=r"schedule.max_time='10m'.*days:hours:minutes:seconds"):
        Cosine(0, final_fraction=0.1, max_steps=10, max_time="10m")
