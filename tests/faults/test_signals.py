"""A signal before, within and after training: the run says so, its files are whole, and it goes on to the bit."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.counts import count
from tests.faults.forks import Child, Ended, Forks
from tests.faults.ledger import Row
from tests.faults.lives import (
    WORDS,
    Unbroken,
    damage,
    finished,
    holds,
    ready,
    resumed,
    step_said,
    stopped_in_order,
    unbroken,
)
from tests.faults.outcome import said

pytestmark = pytest.mark.faults

SIGNALS = count("SIGNALS", 2)
NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


@pytest.fixture(scope="module")
def whole(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """What every run of this file should come to."""
    return unbroken(forks, ready(tmp_path_factory.mktemp("whole")), WORDS)


def saving(child: Child) -> bool:
    """Whether a checkpoint is being written."""
    return any((child.work / "run/checkpoints").glob(".unfinished*"))


def validating(child: Child) -> bool:
    """Whether a validation has begun."""
    return (child.work / "validation_step").exists()


def started(child: Child) -> bool:
    """Whether the command has begun."""
    return (child.folder / "started").exists()


@dataclass(frozen=True)
class Phase:
    """When a signal comes.

    Args:
        begins: whether the phase has begun.
        seconds: how long it lasts at most; the signal comes at a random moment of it.
        conditions: that make it last.
    """

    begins: Callable[[Child], bool]
    seconds: Callable[[Unbroken], float]
    conditions: tuple[tuple[Any, ...], ...] = ()

    def come(self, child: Child, whole: Unbroken, moment: float) -> bool:
        """Wait for a moment, between 0 and 1, of the phase; whether there was the phase."""
        there = child.until(lambda: self.begins(child))
        child.until(lambda: False, moment * self.seconds(whole))
        return there


PHASES = {
    "before training": Phase(started, lambda whole: whole.before * 0.8),
    "in training": Phase(holds, lambda whole: whole.within),
    "in a save": Phase(saving, lambda whole: 0.1, (("slow_saves", 0.1),)),
    "in a validation": Phase(validating, lambda whole: 0.3, (("slow", "validation_step", 0.05),)),
    "after training": Phase(finished, lambda whole: 0.2, (("slow_report", 0.3),)),
}


def lost(ended: Ended, number: int, phase: str, run: Path) -> str:
    """What a signal did that it should not have done, "" where it did not."""
    if number == signal.SIGHUP:
        # nobody promises more than whole files for it: it may end the run at once, or not at all
        return "" if ended.status in (0, -number, 128 + number) else f"ends otherwise: status {ended.status}"
    if phase == "after training" and (ended.status == 0 or "compare " in ended.out):
        # all is said and done
        return ""
    return stopped_in_order(ended, number) or step_said(ended, run)


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_stops_in_order_and_the_run_goes_on_to_the_bit(
    phase: str, forks: Forks, whole: Unbroken, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row = ledger(f"signal {phase}, resumed: {', '.join(number.name for number in NUMBERS)}")

    def once(number: signal.Signals, index: int) -> str:
        folder = ready(tmp_path / f"{number.name}{index}")
        child = forks.start(folder, WORDS, conditions=PHASES[phase].conditions)
        moment = random.Random(f"{count('SEED', 0)} {phase} {number} {index}").random()
        if not PHASES[phase].come(child, whole, moment):
            return f"{number.name}: ended before it came: {said(child.wait())}"
        child.send(number)
        ended = child.wait()
        run = folder / "work/run"
        loss = damage(run) or lost(ended, number, phase, run) or resumed(forks, folder, WORDS, whole.folder)
        return f"{number.name}: {loss}" if loss else ""

    with ThreadPoolExecutor(count("JOBS", 2)) as pool:
        for loss in pool.map(once, sorted(NUMBERS * SIGNALS), [*range(SIGNALS)] * len(NUMBERS)):
            row.note(loss)
    assert not row.losses


def test_a_second_signal_ends_at_once_and_leaves_whole_files(
    forks: Forks, whole: Unbroken, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row, chooser = ledger("Ctrl-C twice within 0.3 s, resumed"), random.Random(count("SEED", 0))
    for index in range(2 * SIGNALS):
        folder = ready(tmp_path / str(index))
        child = forks.start(folder, WORDS, conditions=(("slow", "training_step", 0.2),))
        PHASES["in training"].come(child, whole, chooser.random())
        child.send(signal.SIGINT)
        child.until(lambda: False, 0.3 * chooser.random())
        child.send(signal.SIGINT)
        ended = child.wait(5)
        run = folder / "work/run"
        status = "" if ended.status in (130, -signal.SIGINT) else f"ends otherwise: status {ended.status}"
        row.note(damage(run) or status or resumed(forks, folder, WORDS, whole.folder))
    assert not row.losses
