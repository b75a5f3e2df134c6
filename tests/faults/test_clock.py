"""A run is continued where it is furthest, whatever the clock says, and never while it still runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.forks import Child, Forks
from tests.faults.ledger import Row
from tests.faults.lives import WORDS, ready, steps
from tests.faults.outcome import ACCEPTED, outcome, said

pytestmark = pytest.mark.faults

NEW = tuple(word for word in WORDS if not word.startswith(("hydra.run.dir", "resume")))
SLOW = (("slow", "training_step", 0.03),)
HOUR = 3600.0


def killed_at(forks: Forks, folder: Path, name: str, step: int) -> Path:
    """A run in `runs/lcsm/<name>` that was killed after some step."""
    words = (*NEW, f"hydra.run.dir=runs/lcsm/{name}")
    child = forks.start(folder, words, conditions=SLOW)
    run = folder / "work/runs/lcsm" / name
    assert child.until(lambda: steps(run) >= step)
    child.send(signal.SIGKILL)
    child.wait()
    return run


def move_clock(run: Path, seconds: float) -> None:
    """All files of a run as if written earlier, by so many seconds, or later."""
    for path in (run, *run.rglob("*")):
        time = path.stat().st_mtime + seconds
        os.utime(path, (time, time))


@pytest.mark.parametrize(
    ("name", "far", "near"),
    [("the clock set back", -HOUR, 0.0), ("one copied, with later dates", 0.0, 24 * HOUR), ("in that order", 0.0, 0.0)],
)
def test_the_run_with_the_most_steps_is_continued(
    name: str, far: float, near: float, forks: Forks, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row, folder = ledger(f"two killed runs, {name}, resume=auto"), ready(tmp_path)
    furthest = killed_at(forks, folder, "b", 15)
    nearest = killed_at(forks, folder, "a", 5)
    move_clock(furthest, far)
    move_clock(nearest, near)
    ended = forks.run(folder, (*NEW, "resume=auto"))
    loss = "" if outcome(ended) == ACCEPTED else said(ended)
    if not loss and "lcsm/b/checkpoints/last.ckpt at step" not in ended.out:
        found = [line for line in ended.out.splitlines() if "continuing" in line]
        loss = f"did not continue the run at step 15: {found}"
    row.note(loss)
    assert not row.losses


def test_a_run_that_still_runs_is_not_continued_by_another(
    forks: Forks, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row, folder = ledger("the same command again while it runs, resume=auto"), ready(tmp_path)
    first = forks.start(folder, (*NEW, "resume=auto"), conditions=SLOW)
    assert first.until(lambda: any(steps(run) > 3 for run in folder.glob("work/runs/lcsm/*")))
    second = Child(forks, *again(forks, folder))
    ended = second.wait()
    row.note("continues a run that another process writes" if "continuing" in ended.out else "")
    row.note("" if outcome(first.wait()) == ACCEPTED else "the first run did not end")
    assert not row.losses


def again(forks: Forks, folder: Path) -> tuple[int, Path]:
    """The same command in the same working directory, with words of its own: pid and folder."""
    beside = folder / "beside"
    beside.mkdir()
    (beside / "work").symlink_to(folder / "work", target_is_directory=True)
    return forks.start(beside, (*NEW, "resume=auto"), allowed=[str(folder / "work")]).pid, beside
