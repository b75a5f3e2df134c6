"""The house finds what it looks for: commands that do wrong are found, and a good one is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.cases import INVALID, Case
from tests.faults.cases.all import KINDS
from tests.faults.forks import Forks
from tests.faults.ledger import Row, table
from tests.faults.test_command_lines import tried

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("hang", "hang"),
        ("abort", "killed"),
        ("crash", "traceback"),
        ("devour", "traceback"),
        ("talk", "wrong words"),
        ("say_nothing", "wrong words"),
        ("mislead", "says 'latin-1'"),
        ("accept", "accepted instead of refused"),
        ("write_outside", "tried outside of its folder: wrote"),
        ("make_outside", "tried outside of its folder: os.mkdir"),
        ("rename_outside", "tried outside of its folder: os.rename"),
        ("start_program", "tried outside of its folder: os.system"),
        ("connect", "tried outside of its folder: socket"),
        ("import_foreign", "foreign code ran (imported)"),
        ("fork", "1 processes forked"),
        ("refuse", ""),
    ],
)
def test_what_a_command_must_not_do_is_found(command: str, found: str, forks: Forks, tmp_path: Path) -> None:
    case = Case(command, ("train",), INVALID, never="latin-1", conditions=(("planted", command),))
    loss = tried(case, forks, tmp_path, tmp_path / "case", seconds=3)
    assert (found in loss) if found else loss == ""
    assert not (tmp_path / "case/elsewhere").exists()


def test_the_parent_of_all_children_has_one_thread(forks: Forks) -> None:
    # a child of several threads may wait for a lock that nobody holds any more
    assert len(list(Path(f"/proc/{forks.process.pid}/task").iterdir())) == 1


def test_a_row_counts_what_was_lost() -> None:
    row = Row("killed")
    for loss in ("", "last.ckpt", ""):
        row.note(loss)
    assert (row.survived, row.lost) == (2, ["last.ckpt"])
    assert table([vars(row)])[-1] == "faults tried 3, survived 2, lost 1"
    assert row.losses == "killed: 1 lost\nlast.ckpt"
    assert "nothing was tried" in Row("not killed").losses


def test_there_are_cases_of_every_kind_and_both_outcomes() -> None:
    cases = [case for kind in KINDS.values() for case in kind]
    assert len({case.name for case in cases}) == len(cases) >= 300
    assert all(any(case.expected == INVALID for case in kind) for kind in KINDS.values())
    assert sum(case.expected != INVALID for case in cases) > 50
