"""Several runs at once: one of them has a directory, the others are refused or go elsewhere, and none is harmed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.forks import Child, Forks
from tests.faults.ledger import Row
from tests.faults.lives import WORDS, damage, holds, ready
from tests.faults.outcome import ACCEPTED, REFUSED, outcome, said

pytestmark = pytest.mark.faults

SLOW = (("slow", "training_step", 0.05),)
FREE = tuple(word for word in WORDS if not word.startswith(("hydra.run.dir", "resume")))


def beside(forks: Forks, folder: Path, name: str, words: tuple[str, ...], *conditions: tuple) -> Child:
    """A child of its own in the working directory of others."""
    own = folder / name
    own.mkdir(parents=True)
    (own / "work").symlink_to(folder / "work", target_is_directory=True)
    return forks.start(own, words, conditions=(*SLOW, *conditions), allowed=[str(folder / "work")])


def records(run: Path) -> dict[str, str]:
    """What a run directory says of how it was started."""
    return {path.name: path.read_text() for path in (run / ".hydra").iterdir()} | {
        "config.yaml": (run / "config.yaml").read_text()
    }


@pytest.mark.parametrize("resume", ["null", "auto"])
def test_the_second_run_in_a_directory_is_refused_and_leaves_no_trace(
    resume: str, forks: Forks, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row, folder = ledger(f"two starts into one directory, resume={resume}"), ready(tmp_path)
    first = beside(forks, folder, "first", (*WORDS, f"resume={resume}"))
    run = folder / "work/run"
    assert first.until(lambda: holds(first) and (run / "config.yaml").exists())
    before = records(run)
    ended = beside(forks, folder, "second", (*WORDS, f"resume={resume}", "optim.lr=0.5")).wait()
    refused = outcome(ended) == REFUSED and "in use by" in ended.err
    row.note("" if refused else f"the second start: {said(ended)}")
    changed = [name for name, text in records(run).items() if before.get(name) != text]
    row.note(f"the second start rewrote {', '.join(changed)} of the first" if changed else "")
    ended = first.wait()
    row.note(damage(run) or ("" if outcome(ended) == ACCEPTED else f"the first run: {said(ended)}"))
    assert not row.losses


def test_three_runs_at_once_have_three_directories(forks: Forks, tmp_path: Path, ledger: Callable[[str], Row]) -> None:
    row, folder = ledger("three starts at once, each in a directory of its own"), ready(tmp_path)
    children = [beside(forks, folder, str(number), FREE) for number in range(3)]
    for child in children:
        ended = child.wait()
        row.note("" if outcome(ended) == ACCEPTED else said(ended))
    found = list(folder.glob("work/runs/*/*/end.json"))
    row.note("" if len(found) == 3 else f"{len(found)} directories")
    assert not row.losses


def test_two_runs_of_the_same_microsecond_do_not_mix(
    forks: Forks, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row, folder = ledger("two starts in the same microsecond"), ready(tmp_path)
    first = beside(forks, folder, "first", FREE, ("fixed_clock",))
    assert first.until(lambda: any(folder.glob("work/runs/*/*/config.yaml")))
    (run,) = (path.parent for path in folder.glob("work/runs/*/*/config.yaml"))
    before = records(run)
    ended = beside(forks, folder, "second", (*FREE, "optim.lr=0.5"), ("fixed_clock",)).wait()
    row.note("" if outcome(ended) in (ACCEPTED, REFUSED) else f"the second start: {said(ended)}")
    changed = [name for name, text in records(run).items() if before.get(name) != text]
    row.note(f"the second start rewrote {', '.join(changed)} of the first" if changed else "")
    ended = first.wait()
    row.note(damage(run) or ("" if outcome(ended) == ACCEPTED else f"the first run: {said(ended)}"))
    assert not row.losses
