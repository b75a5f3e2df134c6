"""A run that is killed at random moments leaves whole files, starts again and ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.counts import count
from tests.faults.forks import Child, Forks
from tests.faults.ledger import Row
from tests.faults.lives import WORDS, Unbroken, damage, holds, ready, resumed, unbroken

pytestmark = pytest.mark.faults

KILLS = count("KILLS", 24)
# a life is a run and its restarts until it may end
KILLS_OF_A_LIFE = 4
# share of the kills that come before the run directory is taken
EARLY = 0.1


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder for temporary files on another file system, where there is one that can be written."""
    memory = Path("/dev/shm")
    is_other = memory.is_dir() and os.access(memory, os.W_OK) and memory.stat().st_dev != tmp_path.stat().st_dev
    folder = Path(tempfile.mkdtemp(prefix="lcsm-faults-", dir=memory if is_other else tmp_path))
    yield folder
    shutil.rmtree(folder)


def kill(child: Child, chooser: random.Random, whole: Unbroken) -> bool:
    """Kill a child and all that it forked at a random moment; False where it ended before."""
    if chooser.random() < EARLY:
        child.until(lambda: False, chooser.random() * whole.before)
    elif child.until(lambda: holds(child)):
        child.until(lambda: False, chooser.random() * whole.within)
    if not child.running():
        return False
    child.end_group()
    return child.wait().status == -signal.SIGKILL


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plain", ()),
        ("2 loader workers, accumulation 2", ("data.num_workers=2", "trainer.accumulate_grad_batches=2")),
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    name: str, words: tuple[str, ...], forks: Forks, tmp_path: Path, elsewhere: Path, ledger: Callable[[str], Row]
) -> None:
    row, chooser = ledger(f"SIGKILL at a random moment, resumed: {name}"), random.Random(count("SEED", 0))
    whole = unbroken(forks, ready(tmp_path / "whole"), (*WORDS, *words))
    options = {"environment": {"TMPDIR": str(elsewhere)}, "allowed": [str(elsewhere)]}
    done, life = 0, 0
    while done < KILLS // 2:
        folder, losses, life = ready(tmp_path / f"life{life}"), [], life + 1
        for _ in range(min(KILLS_OF_A_LIFE, KILLS // 2 - done)):
            child = forks.start(folder, (*WORDS, *words), **options)
            if kill(child, chooser, whole):
                losses.append(damage(folder / "work/run"))
            elif child.wait().status != 0:
                losses.append(f"a restart ended with {child.status}")
        end = resumed(forks, folder, (*WORDS, *words), whole.folder, **options)
        # sockets of Python's own processes stay behind where nobody was left to remove them
        left = [path.name for path in elsewhere.iterdir() if not path.name.startswith("pymp-")]
        if not end and left:
            end = f"left temporary files: {', '.join(left[:3])}"
        for loss in losses:
            row.note(loss or end)
        done += max(1, len(losses))
    row.require()
