"""A run that dies while its loader workers live goes on at once: the directory is not held by the dead."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.counts import count
from tests.faults.forks import Forks
from tests.faults.ledger import Row
from tests.faults.lives import WORDS, damage, holds, ready, resumed, steps, unbroken

pytestmark = pytest.mark.faults

WITH_WORKERS = (*WORDS, "data.num_workers=2")


def test_a_run_killed_beside_its_workers_starts_again_at_once(
    forks: Forks, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row, chooser = ledger("SIGKILL to a run with 2 workers, restarted at once"), random.Random(count("SEED", 0))
    whole = unbroken(forks, ready(tmp_path / "whole"), WITH_WORKERS)
    for index in range(count("RESTARTS", 4)):
        folder = ready(tmp_path / str(index))
        child = forks.start(folder, WITH_WORKERS)
        child.until(lambda child=child: holds(child) and steps(child.work / "run") > 1)
        child.until(lambda: False, chooser.random() * whole.within * 0.5)
        child.send(signal.SIGKILL)
        child.until(lambda: False, 10)
        # its workers still live, as after a kill by the system or by an operator
        loss = damage(folder / "work/run") or resumed(forks, folder, WITH_WORKERS, whole.folder)
        child.end_group()
        row.note(loss)
    assert not row.losses
