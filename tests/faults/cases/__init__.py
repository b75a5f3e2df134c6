"""Command lines, each with the files it finds and what it has to lead to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.forks import Ended
from tests.faults.outcome import ACCEPTED, MEMORY, REFUSED, said
from tests.faults.outcome import outcome as outcome_of

# what a case may lead to; EITHER leaves the choice open, but nothing else: no traceback, no hang, no trace outside
VALID, INVALID, EITHER, LARGE = (ACCEPTED,), (REFUSED,), (ACCEPTED, REFUSED), (ACCEPTED, REFUSED, MEMORY)

SIZES = ("model.d_model=16", "model.num_layers=1", "trainer.max_steps=2", "data.batch_size=4", "data.length=32")
QUIET = ("callbacks.figures=null", "logger=csv")
TRAIN = ("train", *SIZES, "data.num_val=16", *QUIET)
# a text in t.txt; options of a text win over these
ON_TEXT = ("train", "task=lm", "data=text", *SIZES, "data.val_lengths=[1]", "callbacks.samples=null", *QUIET)
TEXT = (*ON_TEXT, "data.train_files=t.txt")
# what a text that suffices holds
PROSE = "Über den Wolken, sagt man, ist es still.\nUnter ihnen regnet es.\n\n" * 60


@dataclass(frozen=True)
class Case:
    """One command line.

    Args:
        name: what it is, for the report.
        words: the command and its arguments.
        expected: outcomes that are right.
        files: put into the working directory, by name.
        asset: folder of a finished run whose content the working directory starts with.
        change: what is done to the working directory before the command starts.
        check: looks at the working directory afterwards; what is wrong with it, or nothing.
        never: what the command must not say; it would mislead.
        conditions: functions of `conditions.py`, each with its arguments.
        environment: further variables.
        foreign: whether code of the case may run, because the command line allows it by name.
        forks: processes that it may fork at most.
        allowed: folders outside of its own in which it may try to write, because the command line names them.
        stdin: name of the file that it reads.
    """

    name: str
    words: tuple[str, ...]
    expected: tuple[str, ...]
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    asset: str | None = None
    change: Callable[[Path], Any] | None = None
    check: Callable[[Path], str] | None = None
    never: str | None = None
    conditions: tuple[tuple[Any, ...], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    foreign: bool = False
    forks: int = 0
    allowed: tuple[str, ...] = ()
    stdin: str | None = None

    def prepare(self, work: Path) -> None:
        """Put everything in place in the working directory."""
        for name, content in self.files.items():
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        if self.change is not None:
            self.change(work)

    def loss(self, ended: Ended, work: Path, foreign_ran: str) -> str:
        """What went wrong in one line, "" where nothing did.

        Args:
            ended: how the command ended.
            work: its working directory.
            foreign_ran: what the foreign code noted, "" where it did not run.
        """
        found = outcome_of(ended)
        wrong = [] if found in self.expected else [f"{found} instead of {' or '.join(self.expected)}"]
        if foreign_ran and not self.foreign:
            wrong.append(f"foreign code ran ({foreign_ran.split()[0]})")
        if ended.notes:
            wrong.append(f"tried outside of its folder: {ended.notes[0]}")
        if ended.forks > self.forks:
            wrong.append(f"{ended.forks} processes forked")
        if self.never is not None and self.never in ended.out + ended.err:
            wrong.append(f"says {self.never!r}")
        if self.check is not None and not wrong and (fault := self.check(work)):
            wrong.append(fault)
        return f"{self.name}: {'; '.join(wrong)} | {said(ended)}" if wrong else ""
