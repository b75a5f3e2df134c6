"""A run that `trainer.max_time` ends: its schedule ends with it, also when it is broken off and resumed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lcsm.errors import UsageError
from lcsm.tasks.language_modelling import LanguageModelling
from lcsm.training.schedules import Cosine
from tests.training.test_resume import Killed, equal, final_state, rows
from tests.training.toy_run import COSINE, toy_config, toy_fit

WARM_UP, STEPS = 3, 20
BUDGET = f"00:00:00:{STEPS}"
CHANGES = {
    "trainer__max_steps": 1000,
    "trainer__max_time": BUDGET,
    "schedule": COSINE | {"warmup_steps": WARM_UP, "final_fraction": 0.1, "max_steps": 1000, "max_time": BUDGET},
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the trainer takes for the time in seconds."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("lightning.pytorch.callbacks.timer.time", clock)
    return clock


def ticking(clock: SimpleNamespace, dies_at: int | None = None) -> type[LanguageModelling]:
    """A task whose steps take a second each."""

    def tick(self: LanguageModelling, *_: Any) -> None:
        if self.trainer.global_step == dies_at:
            raise Killed
        clock.now += 1

    return type("Ticking", (LanguageModelling,), {"on_train_batch_start": tick})


def rates(run_dir: Path) -> list[float]:
    return [float(row["lr/base"]) for row in rows(run_dir)]


def test_a_run_that_time_ends_has_annealed_when_it_ends(tmp_path: Path, clock: SimpleNamespace) -> None:
    _, end = toy_fit(tmp_path, toy_config(**CHANGES), ticking(clock))
    assert (end["status"], end["step"]) == ("stopped", STEPS)
    counted = Cosine(WARM_UP, final_fraction=0.1, max_steps=STEPS)
    assert rates(tmp_path) == pytest.approx([1e-2 * counted(step) for step in range(STEPS)])


def test_a_resumed_run_goes_on_with_the_time_that_was_left(tmp_path: Path, clock: SimpleNamespace) -> None:
    toy_fit(tmp_path / "whole", toy_config(**CHANGES), ticking(clock))
    with pytest.raises(Killed):
        toy_fit(tmp_path / "broken", toy_config(**CHANGES), ticking(clock, dies_at=11))
    clock.now += 12345.0
    toy_fit(tmp_path / "broken", toy_config(**CHANGES, resume="auto"), ticking(clock))
    assert rates(tmp_path / "whole") == rates(tmp_path / "broken")
    assert equal(final_state(tmp_path / "whole"), final_state(tmp_path / "broken"))


def test_a_forced_resume_takes_the_schedule_of_the_configuration_and_the_time_that_was_left(
    tmp_path: Path, clock: SimpleNamespace
) -> None:
    with pytest.raises(Killed):
        toy_fit(tmp_path, toy_config(**CHANGES), ticking(clock, dies_at=11))
    changes = CHANGES | {"schedule": CHANGES["schedule"] | {"final_fraction": 0.5}}
    toy_fit(tmp_path, toy_config(**changes, resume="auto", resume_force=True), ticking(clock))
    counted = Cosine(WARM_UP, final_fraction=0.5, max_steps=STEPS)
    assert rates(tmp_path)[11:] == pytest.approx([1e-2 * counted(step) for step in range(11, STEPS)])


def test_a_time_that_ends_in_the_warm_up_is_said(
    tmp_path: Path, clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    changes = CHANGES | {"schedule": CHANGES["schedule"] | {"warmup_steps": 50}}
    toy_fit(tmp_path, toy_config(**changes), ticking(clock))
    assert "ended the run in its warm-up, at step 20 of 50" in caplog.text


def test_a_time_for_the_schedule_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"set trainer.max_time"):
        toy_fit(tmp_path, toy_config(**CHANGES | {"trainer__max_time": None}))
