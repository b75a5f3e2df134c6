"""Training runs that are broken off and continued, and their comparison with the unbroken one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcsm.errors import UsageError
from lcsm.training.checkpoints import LAST, read_checkpoint
from tests.faults.forks import Child, Ended, Forks, fresh, read
from tests.faults.outcome import ACCEPTED, outcome, said
from tests.training.test_resume import equal, final_state, rows

# random numbers in every step, a save after each, validations in between and a last one behind the end
WORDS = (
    "train", "model.d_model=16", "model.num_layers=1", "model.dropout=0.2", "trainer.max_steps=30",
    "trainer.val_check_interval=7", "trainer.log_every_n_steps=1", "data.batch_size=4", "data.length=32",
    "data.num_pairs=[1,2]", "data.num_val=16", "callbacks.checkpoint.every=1", "callbacks.figures=null",
    "callbacks.stop_at=null", "logger=csv", "hydra.run.dir=run", "resume=auto",
)  # fmt: skip


@dataclass(frozen=True)
class Unbroken:
    """A run from its start to its end.

    Args:
        folder: of the child; the run is in `work/run`.
        before: seconds until training began.
        within: seconds from then to its end mark.
    """

    folder: Path
    before: float
    within: float


def unbroken(forks: Forks, folder: Path, words: Sequence[str], **options: Any) -> Unbroken:
    """Run some words of `lcsm train` undisturbed."""
    ended = forks.run(folder, words, **options)
    assert outcome(ended) == ACCEPTED, said(ended)
    names = ("started", "work/run/config.yaml", "work/run/end.json")
    started, begun, end = ((folder / name).stat().st_mtime for name in names)
    return Unbroken(folder, begun - started, end - begun)


def holds(child: Child) -> bool:
    """Whether a child holds its run directory, so that training is about to begin."""
    return f"pid {child.pid} " in read(child.work / "run/.lock")


def finished(child: Child) -> bool:
    """Whether a child has written its end mark."""
    return "finished" in read(child.work / "run/end.json")


def steps(run: Path) -> int:
    """Steps that the table of metrics has."""
    lines = read(run / "metrics.csv").splitlines()
    return len(lines) - 1 if lines else 0


def damage(run: Path) -> str:
    """What is wrong with the files of a run that was broken off, "" where nothing is."""
    for path in sorted((run / "checkpoints").glob("*.ckpt")):
        try:
            read_checkpoint(path)
        except UsageError as error:
            return f"{path.name}: {error}"
    return ""


def difference(whole: Path, run: Path) -> str:
    """How a run that was broken off, continued and finished differs from the unbroken one, "" where it does not."""
    if not equal(final_state(whole), final_state(run)):
        return "weights, optimiser or schedule differ from the unbroken run"
    for expected, found in zip(rows(whole), rows(run), strict=False):
        if expected != found:
            wrong = [name for name in expected if expected[name] != found.get(name)]
            return f"metrics.csv differs at step {expected['step']}: {', '.join(wrong)}"
    if len(rows(whole)) != len(rows(run)):
        return f"metrics.csv has {len(rows(run))} rows instead of {len(rows(whole))}"
    scores = [json.loads((path / "end.json").read_text()) for path in (whole, run)]
    for name in (name for name in scores[0] if name.startswith("best/")):
        if scores[0][name] != scores[1].get(name):
            return f"{name} is {scores[1].get(name)} instead of {scores[0][name]}"
    left = sorted(path.name for path in (run / "checkpoints").glob(".unfinished*"))
    return f"left behind: {', '.join(left)}" if left else ""


def resumed(forks: Forks, folder: Path, words: Sequence[str], whole: Path, **options: Any) -> str:
    """Continue what is in a folder to its end, and compare; what was lost, "" where nothing was."""
    ended = forks.run(folder, words, **options)
    if outcome(ended) != ACCEPTED:
        return f"the restart: {said(ended)}"
    if ended.notes:
        return f"the restart tried outside of its folder: {ended.notes[0]}"
    return difference(whole / "work/run", folder / "work/run")


def stopped_in_order(ended: Ended, number: int) -> str:
    """Whether a signal ended a command with its own exit status and a few words, "" where it did."""
    if ended.status != 128 + number:
        return f"ends otherwise: {said(ended)}"
    if not 1 <= len(ended.lines) <= 3 or "Traceback" in ended.out + ended.err:
        return f"says it in other than one to three lines: {said(ended)}"
    return ""


def step_said(ended: Ended, run: Path) -> str:
    """Whether the step of the message is that of the file, "" where it is or none is named."""
    named = ended.err.rpartition("stopped at step ")[2].partition(",")
    if not named[0].isdigit() or "saved in" not in named[2]:
        return ""
    found = read_checkpoint(run / "checkpoints" / LAST).step
    return "" if found == int(named[0]) else f"says step {named[0]}, but the file holds step {found}"


def ready(folder: Path) -> Path:
    """An empty folder for a child."""
    fresh(folder / "work")
    return folder
