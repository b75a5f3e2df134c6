"""A run that is killed at random moments leaves whole files, starts again and ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.counts import count
from tests.faults.forks import Child, Forks
from tests.faults.ledger import Row
from tests.faults.lives import WORDS, Unbroken, damage, holds, ready, resumed, unbroken

pytestmark = pytest.mark.faults

KILLS = count("KILLS", 24)
# a life is a run and its restarts, until it ends or has been killed so often
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
    row, words = ledger(f"SIGKILL at a random moment, resumed: {name}"), (*WORDS, *words)
    whole = unbroken(forks, ready(tmp_path / "whole"), words)

    def life(number: int) -> list[str]:
        chooser = random.Random(f"{count('SEED', 0)} {name} {number}")
        folder, temporary = ready(tmp_path / str(number)), elsewhere / str(number)
        temporary.mkdir()
        options = {"environment": {"TMPDIR": str(temporary)}, "allowed": [str(temporary)]}
        losses = []
        while len(losses) < KILLS_OF_A_LIFE:
            child = forks.start(folder, words, **options)
            if not kill(child, chooser, whole):
                if child.wait().status != 0:
                    losses.append(f"a restart ended with {child.status}")
                break
            losses.append(damage(folder / "work/run"))
        end = resumed(forks, folder, words, whole.folder, **options)
        # sockets of Python's own processes stay behind where nobody was left to remove them
        left = [path.name for path in temporary.iterdir() if not path.name.startswith("pymp-")]
        if not end and left:
            end = f"left temporary files: {', '.join(left[:3])}"
        return [loss or end for loss in losses]

    with ThreadPoolExecutor(count("JOBS", 2)) as pool:
        for losses in pool.map(life, range(max(1, KILLS // 2 // KILLS_OF_A_LIFE))):
            for loss in losses:
                row.note(loss)
    assert not row.losses
