"""Broken command lines and files: each is refused in at most three lines, and nothing runs or is written elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.cases import Case
from tests.faults.cases.all import KINDS
from tests.faults.counts import count
from tests.faults.forks import SECONDS, Forks, fresh, read
from tests.faults.ledger import Row

pytestmark = pytest.mark.faults

# notes that it was run, in a file that the guard lets it write
FOREIGN = """
import os

def note(what):
    with open(os.environ["FAULTS_FOREIGN"], "a") as file:
        file.write(what + "\\n")

note("imported")

class Evil:
    def __init__(self, *arguments, **settings):
        note("called")
"""

# what the house itself puts beside the working directory of a case
OWN = {"work", "tmp", "foreign", "ran", "out", "err", "notes", "started"}


def tried(case: Case, forks: Forks, assets: Path, folder: Path, seconds: float = SECONDS) -> str:
    """Run a case; what went wrong, "" where nothing did."""
    fresh(folder)
    work = fresh(folder / "work", assets / case.asset / "work" if case.asset else None)
    for name in ("foreign/foreign_code.py", "foreign/foreign_package/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(FOREIGN)
    ran = folder / "ran"
    case.prepare(work)
    ended = forks.run(
        folder,
        case.words,
        seconds,
        conditions=case.conditions,
        environment={**case.environment, "FAULTS_FOREIGN": str(ran)},
        allowed=[str(ran), *case.allowed],
        **({} if case.stdin is None else {"stdin": str(work / case.stdin)}),
    )
    loss = case.loss(ended, work, read(ran))
    strangers = sorted({path.name for path in folder.iterdir()} - OWN)
    if strangers and not loss:
        loss = f"{case.name}: left {', '.join(strangers)} outside of its folder"
    if not loss:
        fresh(folder).rmdir()
    return loss


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_wrong_is_refused_in_words(
    kind: str, forks: Forks, assets: Path, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row = ledger(f"command lines: {kind}")
    with ThreadPoolExecutor(count("JOBS", 2)) as pool:
        numbered = enumerate(KINDS[kind])
        for loss in pool.map(lambda pair: tried(pair[1], forks, assets, tmp_path / str(pair[0])), numbered):
            row.note(loss)
    assert not row.losses
