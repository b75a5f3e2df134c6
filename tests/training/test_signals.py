"""Signals raise at once, or are noted for the training loop; nothing on their way turns them into a failure."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from lcsm.tasks.language_modelling import LanguageModelling
from lcsm.training.errors import Interrupted
from lcsm.training.signals import STOPPING, StopSignals
from tests.training.toy_run import toy_config, toy_fit


def test_a_signal_before_training_raises_with_the_status_of_shells() -> None:
    for number in STOPPING:
        with pytest.raises(Interrupted, match="stopped outside training") as stopped, StopSignals():
            os.kill(os.getpid(), number)
        assert stopped.value.exit_code == stopped.value.code == 128 + number


def test_a_signal_that_is_noted_survives_a_closed_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, text: bytes) -> None:
        raise BrokenPipeError

    with StopSignals() as signals:
        signals.defer()
        monkeypatch.setattr(os, "write", broken)
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.number == signal.SIGINT


def test_a_signal_that_was_swallowed_ends_the_run_before_training() -> None:
    with StopSignals() as signals:
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM"):
            signals.defer()


def test_a_failure_while_a_library_cleans_up_does_not_hide_the_signal() -> None:
    with pytest.raises(Interrupted) as stop, StopSignals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            raise AttributeError("half of an object")
    assert stop.value.exit_code == 128 + signal.SIGTERM


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def status_of(child: Callable[[], None]) -> int:
    """How a forked process ends: its exit status, or minus the signal that ended it."""
    process = os.fork()
    if not process:
        child()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize("number,status", [(signal.SIGINT, 0), (signal.SIGHUP, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_worker_serves_the_run_until_it_is_terminated(
    number: signal.Signals, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with StopSignals() as signals:
        signals.defer()
        assert status_of(lambda: os.kill(os.getpid(), number)) == status
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_in_the_first_step_ends_the_run_with_its_status(tmp_path: Path, number: int) -> None:
    def send(self: LanguageModelling, *_: object) -> None:
        os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match="stopped at step 1, saved in") as stopped:
        toy_fit(tmp_path, toy_config(), type("Signalled", (LanguageModelling,), {"on_before_zero_grad": send}))
    assert stopped.value.exit_code == 128 + number
